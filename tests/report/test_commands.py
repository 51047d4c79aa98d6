import click
import pytest

from detrojan.cli.guard import calibrate
from detrojan.cli.repair import command as repair
from detrojan.cli.scan import command as scanning
from detrojan.report.commands import (
    SCANS_OWN,
    default_scan_command,
    guard_command,
    option_value,
    repair_command,
)
from detrojan.report.outputs.base import outputs

MODEL_AND_DATA = ("my/model.h5", "--net", "deepid", "--data", "faces.npz")
WORDS = [
    *("detrojan", "scan", *MODEL_AND_DATA, "--json=out/scan.json", "--method", "mm_bd", "--set", "steps=5"),
    *("--resume", "--html", "page.html", "--device", "cpu", "--labels", "1,2", "-v"),
]


def told(report, words):
    """Return the report of a scan that these words started."""
    return report.model_copy(
        update={
            "run": report.run.model_copy(update={"command": words}),
            "model": report.model.model_copy(update={"path": "my/model.h5"}),
        }
    )


def test_the_repair_reads_the_same_model_and_data_and_the_scan_s_findings(scan):
    named = ["--findings", "out/scan.json", "--out", "my/model-repaired.h5"]
    assert repair_command(told(scan, WORDS)) == [
        *("detrojan", "repair", *MODEL_AND_DATA, "--device", "cpu"),
        *named,
    ]


def test_a_scan_without_a_json_has_no_findings_to_name_and_a_blind_repair_names_none(scan):
    assert "--findings" not in repair_command(told(scan, ["detrojan", "scan", "m", "--data", "d"]))
    blind = repair_command(told(scan, WORDS), blind=True)
    assert "--findings" not in blind
    assert blind[-5:-2] == ["--blind", "--method", "fine_pruning"]


def test_without_a_command_line_what_is_missing_is_named(scan):
    words = ["detrojan", "repair", "my/model.h5", "--data", "DATA", "--out", "my/model-repaired.h5"]
    assert repair_command(told(scan, None)) == words


def test_another_scan_and_a_guard_read_the_same_too(scan):
    same = [*MODEL_AND_DATA, "--device", "cpu"]
    assert default_scan_command(told(scan, WORDS)) == ["detrojan", "scan", *same]
    assert guard_command(told(scan, WORDS)) == ["detrojan", "guard", "calibrate", *same, "--out", "guard"]


def names(command):
    """Return the options of a command that take a value, and its flags."""
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    return (
        {name for option in options if not option.is_flag for name in option.opts},
        {name for option in options if option.is_flag for name in [*option.opts, *option.secondary_opts]},
    )


@pytest.mark.parametrize("other", [repair, calibrate])
def test_what_another_verb_does_not_know_is_left_out(other):
    valued, flags = names(scanning)
    known = set.union(*names(other))
    dropped = SCANS_OWN | dict.fromkeys([f"--{name}" for name in outputs()], True)
    assert {name for name in valued | flags if name not in known} <= dropped.keys()
    assert all(takes == (name in valued) for name, takes in dropped.items() if name in valued | flags)


def test_a_value_is_found_in_both_spellings():
    assert option_value(["--json", "a", "--html=b"], "--json") == "a"
    assert option_value(["--json", "a", "--html=b"], "--html") == "b"
    assert option_value(["--json"], "--json") == ""
