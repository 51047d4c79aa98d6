"""The page shows what came in, and loads nothing from elsewhere."""

import base64
import re

import pytest

from blobs import SIDE
from detrojan.serve.pictures import png


def test_the_state_is_what_was_asked(world, serving):
    with serving(world.guard) as found:
        found.client.infer(world.clean[:6])
        found.client.infer(world.rejected[:2])
        told = found.client.get("/state").json
    assert (told["inputs"], told["rejected"], told["state"]) == (8, 2, "usual")
    assert [point[2] for point in told["points"]] == [False] * 6 + [True] * 2
    assert told["points"][0][1] == pytest.approx(float(world.guard.score(world.clean[:1])), abs=1e-5)
    assert told["boundary"] == world.guard.threshold
    assert [base64.b64decode(one["png"]) for one in told["latest"]] == [
        png(world.rejected[1]), png(world.rejected[0]),
    ]  # fmt: skip
    assert told["facts"]["Guard"] == "strip"
    assert told["p99"] >= told["p50"] > 0


def test_the_page_needs_nothing_from_elsewhere(service):
    for path, kind in (("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")):
        answer = service.client.get(path)
        assert answer.headers["content-type"].startswith(kind)
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        addresses = re.findall(r"https?://[^\s\"']+", answer.body.decode())
        assert set(addresses) <= {"http://www.w3.org/2000/svg"}
        assert "innerHTML" not in answer.body.decode()


def test_the_region_of_a_rejected_input_is_where_the_trigger_is(world, serving):
    with serving(world.guard) as found:
        found.client.infer(world.rejected[:2])
        (_, first) = found.client.get("/state").json["latest"]
        told = found.client.get(f"/region/{first['number']}").json
        box = told["region"]
        assert (box["top"] + box["height"], box["left"] + box["width"]) >= (SIDE - 1, SIDE - 1)
        assert min(box["top"], box["left"]) >= SIDE - 9
        assert told["removed"] >= 0.5
        assert found.client.get(f"/region/{first['number']}").json == told
        for number in ("99", "x", "-1", "9" * 30):
            assert found.client.get(f"/region/{number}").status == 404
    with serving(world.guard, hosts=("*",)) as found:
        found.client.infer(world.rejected[:1])
        assert not found.client.get("/state").json["explains"]
        assert found.client.get("/region/1").status == 404
