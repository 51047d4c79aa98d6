from __future__ import annotations

import json

import click
import pytest
from click.testing import CliRunner

from detrojan.console.options import OutputOptions, output_options
from detrojan.console.outputs import emit
from detrojan.report.outputs.base import outputs

NEW = '''
from detrojan.report.outputs.base import Output

class Lines(Output):
    """One line per flagged label."""

    name = "lines"
    help = "Also write a line per flagged label here."

    def render(self, report, pictures=None):
        return "".join(f"{label}\\n" for label in report.targets)
'''


def test_json_comes_first_and_each_output_says_what_it_is():
    found = outputs()
    assert list(found) == ["json", "html", "cyclonedx", "junit", "prometheus", "sarif"]
    assert all(output.name == name and output.help.endswith(".") for name, output in found.items())


def test_a_new_output_is_one_file(new_file, scan, tmp_path):
    new_file("detrojan.report.outputs", "lines", NEW)
    assert list(outputs()) == ["json", "html", "cyclonedx", "junit", "lines", "prometheus", "sarif"]

    @click.command()
    @output_options("scan")
    def verb(output: OutputOptions) -> None:
        emit(scan, output)

    told = CliRunner().invoke(verb, ["--help"])
    assert "--lines FILE" in told.output
    done = CliRunner().invoke(verb, ["--lines", str(tmp_path / "l.txt"), "--json", str(tmp_path / "s.json")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "l.txt").read_text() == "".join(f"{label}\n" for label in scan.targets)
    assert json.loads((tmp_path / "s.json").read_text())["targets"] == scan.targets


@pytest.mark.parametrize(("name", "begins"), [("json", "{"), ("html", "<!DOCTYPE html>")])
def test_each_output_renders_a_report(scan, name, begins):
    assert outputs()[name].render(scan).lstrip().lower().startswith(begins.lower())


def test_pictures_are_made_where_an_output_shows_them(tmp_path):
    assert not OutputOptions(format_="text", files={"json": tmp_path / "a"}).pictured
    assert OutputOptions(format_="text", files={"html": tmp_path / "a"}).pictured
    assert not OutputOptions(format_="text", files={"html": None}).pictured
