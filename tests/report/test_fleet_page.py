from __future__ import annotations

import base64
import hashlib
import re

from detrojan.report.fleet_page import render_fleet
from detrojan.report.records.fleet import FirstLook, FleetModel, FleetRecord


def record(*models, **values):
    said = {"version": "1", "policy": "p", "ignored": 3, "failing": [], "exit_code": 0}
    return FleetRecord(**{**said, **values}, models=list(models))


def model(name, **values):
    return FleetModel(
        **{"name": name, "path": name, "sha256": "ab12", "bytes": 1_500_000, "key": "k", **values}
    )


def test_names_out_of_files_stay_text_and_links_stay_in_the_folder():
    evil = '"><script>alert(1)</script>'
    page = render_fleet(record(
        model(f"m/{evil}", status="skipped", category="unsafe", reason=evil),
        model("m/b", status="scanned", verdict="no evidence", page="models/a b#?/scan.html"),
    ))  # fmt: skip
    assert page.count("<script>") == 1
    assert "alert(1)</script>" not in page
    assert 'href="models/a%20b%23%3F/scan.html"' in page
    assert "In m/" in page
    assert "1 model of 2 could not be judged, or wait." in page


def test_the_script_is_the_one_that_the_page_allows():
    page = render_fleet(record())
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page


def test_rows_are_sorted_by_numbers_and_not_by_their_texts():
    first = FirstLook(format="onnx", net="", classes=4, parameters=9, p_value=0.00123, label=2)
    page = render_fleet(record(
        model("b", status="scanned", verdict="inconclusive", first=first, seconds=75.2),
        model("a", status="scanned", verdict="backdoored", severity="high", targets=[2]),
        failing=["a"], exit_code=1,
    ))  # fmt: skip
    assert page.index(">a<") < page.index(">b<")
    for key, text in (("0.00123", "0.0012"), ("1500000", "1.5\u00a0MB"), ("75.2", "1\u00a0min 15\u00a0s")):
        assert re.search(rf'data-key="{key}"[^>]*>{text}</td>', page)
    assert "1 model of 2 failed by the policy." in page
