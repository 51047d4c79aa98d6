"""Known findings from the command line."""

import json


def test_an_accepted_backdoor_passes_and_stays_in_the_report(world, scanned, cli, tmp_path):
    done = cli.call("baseline", "write", tmp_path / "known.json", scanned / "scan.json", "--reason", "ours")
    assert done.exit_code == 0, done.output
    assert "1 new, 1 in" in done.stdout
    done = cli.call(
        "scan", world.model, "--data", world.data, *cli.QUICK, "--baseline", tmp_path / "known.json",
        "--json", tmp_path / "scan.json", "--sarif", tmp_path / "scan.sarif",
        "--html", tmp_path / "scan.html",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "1 known and accepted, 0 new." in " ".join(done.stdout.split())
    report = json.loads((tmp_path / "scan.json").read_text())
    assert (report["verdict"], report["targets"]) == ("backdoored", [cli.TARGET])
    assert report["findings"][0]["accepted"] == {"reason": "ours", "expires": None}
    (result,) = json.loads((tmp_path / "scan.sarif").read_text())["runs"][0]["results"]
    assert (result["baselineState"], result["suppressions"][0]["justification"]) == ("unchanged", "ours")
    assert "Accepted" in (tmp_path / "scan.html").read_text()


def test_a_bad_baseline_is_refused_before_the_work(world, cli, tmp_path):
    done = cli.call("scan", world.model, "--data", world.data, "--baseline", tmp_path / "gone.json")
    assert done.exit_code == 2
    assert "cannot read the baseline" in done.stderr
    done = cli.call("baseline", "write", tmp_path / "known.json")
    assert done.exit_code == 4
