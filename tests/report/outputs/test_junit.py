"""JUnit XML, read back by the standard library."""

from xml.etree import ElementTree as ET

from detrojan.report.outputs.base import outputs


def test_each_file_is_a_test_that_passes_fails_or_errs(results):
    root = ET.fromstring(outputs()["junit"].render_all(results))
    said = [
        (case.get("classname"), [child.tag for child in case if child.tag in {"failure", "error", "skipped"}])
        for case in root.iter("testcase")
    ]
    assert said == [
        ("detrojan.scan", ["failure"]),
        ("detrojan.scan", []),
        ("detrojan.scan", ["error"]),
        ("detrojan.scan", ["skipped"]),
        ("detrojan.scan", ["error"]),
        ("detrojan.repair", []),
        ("detrojan.filter", ["failure"]),
    ]
    counts = {name: int(root.get(name)) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": 7, "failures": 2, "errors": 2, "skipped": 1}
    scans = root[0]
    assert [suite.get("name") for suite in root] == ["detrojan scan", "detrojan repair", "detrojan filter"]
    assert (scans.get("tests"), scans.get("failures"), scans.get("errors")) == ("5", "1", "2")
    assert scans.get("timestamp") == "2026-03-01T12:30:00Z"


def test_a_failure_names_rule_fingerprint_and_help(results):
    root = ET.fromstring(outputs()["junit"].render_all(results))
    failure = root.find(".//failure")
    assert failure.get("type") == "backdoor/targeted"
    assert failure.get("message").startswith("Backdoor found: target label 3")
    assert "fingerprint " in failure.text
    assert "Do not deploy this model." in failure.text
    assert root.find(".//skipped").get("message") == "accepted: a known quirk"


def test_what_xml_cannot_hold_is_replaced(results):
    text = outputs()["junit"].render_all(results[-1:])
    assert "\x1b" not in text
    case = ET.fromstring(text).find(".//testcase")
    assert "code & <xml>" in case.find("error").get("message")
