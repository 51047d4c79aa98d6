"""`detrojan serve` says in one line what is wrong before it listens."""

import pytest


def test_a_folder_without_a_guard_is_refused(cli, tmp_path):
    done = cli.call("serve", tmp_path / "none")
    assert done.exit_code == 2
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--mode", "pass"), "--mode"),
        (("--queue", "0"), "--queue"),
        (("--name", "a/b"), "expected name of letters, digits, dots and dashes"),
    ],
)
def test_wrong_settings_are_wrong_usage(cli, tmp_path, words, says):
    done = cli.call("serve", tmp_path, *words)
    assert (done.exit_code, says in done.output) == (4, True)


def test_the_environment_counts_and_the_call_goes_before_it(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("DETROJAN_SERVE_NAME", "a/b")
    assert cli.call("serve", tmp_path).exit_code == 4
    assert cli.call("serve", tmp_path, "--name", "fine").exit_code == 2


def test_a_short_token_and_a_missing_file_of_one_are_refused(cli, tmp_path, monkeypatch):
    assert cli.call("serve", tmp_path, "--token-file", tmp_path / "none").exit_code == 2
    monkeypatch.setenv("DETROJAN_SERVE_TOKEN", "short")
    done = cli.call("serve", tmp_path)
    assert (done.exit_code, "short" in done.output) == (4, False)
