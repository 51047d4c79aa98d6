import pytest

from detrojan.benchmark.averages import DASH
from detrojan.benchmark.tables import render, tables


def row(attack="badnets", defence="none", seed=0, room="", status="done", **figures):
    return {
        "plan": {"name": "p", "title": "A plan", "sha256": "ab" * 32},
        "profile": "cpu",
        "sizes": {"train": 100, "epochs": 3},
        "data": "cifar10",
        "network": "wrn",
        "attack": attack,
        "defence": defence,
        "seed": seed,
        "room": room,
        "status": status,
        "about": {"data": "ten classes", "network": "WRN-16-1"},
        "figures": figures,
        "twin": {"ca": 0.9 + seed / 100},
        "seconds": {"twin": 60, "attack": 120, "defence": 30},
        "provenance": {"commit": "c" * 40, "device_name": "cpu", "threads": 1, "torch": "2"},
        "cell": "x",
    }


def cells(found):
    (table,) = found
    return {
        (line[0], head): cell for line in table.rows for head, cell in zip(table.columns, line, strict=True)
    }


def test_attacks_go_down_defences_across_with_means_over_seeds():
    rows = [row(seed=seed, ca=0.8 + seed / 100, asr=1.0) for seed in (0, 2)]
    rows += [row("blend", ca=0.7, asr=0.5), row(defence="nad", room="repairs", ca=0.79, asr=0.04)]
    found = cells(tables(rows))
    assert found["badnets", "none"] == "81.0±1.4 / 100.0±0.0"
    assert found["badnets", "clean twin"] == "91.0±1.4"
    assert found["badnets", "nad"] == "79.0 / 4.0"
    assert found["blend", "nad"] == ""
    assert found["average", "nad"] == "", "an average over some of the attacks would mislead"
    assert found["average", "none"].startswith("77.")


def test_documents_figures_stand_beside():
    one = row(ca=0.8543, asr=1.0) | {"reference": {"source": "ABL, table 1", "ca": 0.8543, "asr": 1.0}}
    (table,) = tables([one])
    assert table.rows[0][2] == "85.4 / 100.0 [85.4 / 100.0]"
    assert any("ABL, table 1" in note for note in table.notes)


def test_each_room_has_its_own_figures():
    found = cells(
        tables(
            [
                row(defence="nc", room="scans", flagged=1.0, target_right=0.0),
                row(defence="strip", room="guards", frr=0.0105, far=0.002),
                row(
                    defence="auto",
                    room="guards",
                    frr=0.0105,
                    far=0.032,
                    auroc=0.997,
                    **{"far_at_0.01": 0.03, "far_at_0.05": 0.015},
                ),
                row(defence="abl", room="trainers", ca=0.86, asr=0.03, isolation_precision=0.98),
                row(defence="spectral", room="filters", precision=0.5, recall=None),
                row(defence="csaw", room="repairs", agreement=0.979, asr=0.0),
            ]
        )
    )
    assert found["badnets", "nc"] == "flagged 1/1, target 0/1"
    assert found["badnets", "strip"] == "FRR 1.05 / FAR 0.20"
    assert found["badnets", "auto"] == "AUROC 99.7, FRR 1.05 / FAR 3.20 (3.0 at 1%, 1.5 at 5%)"
    assert found["badnets", "abl"] == "86.0 / 3.0 (isolated 98.0 right)"
    assert found["badnets", "spectral"] == f"precision 50.0 / recall {DASH}"
    assert found["badnets", "csaw"] == "agr. 97.9 / 0.0"


def test_what_failed_is_said_and_time_is_counted_once():
    rows = [row(ca=0.8, asr=1), row(defence="nad", status="failed") | {"reason": "no such layer"}]
    rows[1].pop("seconds")
    (table,) = tables(rows)
    assert table.rows[0][3] == "failed"
    assert "badnets / nad (seed 0): failed: no such layer" in table.notes
    rows = [row(ca=0.8, asr=1), row(defence="nad", ca=0.8, asr=0)]
    notes = " ".join(tables(rows)[0].notes)
    assert "4.0 minutes" in notes
    assert "bfloat16" not in notes
    rows[0]["settings"] = {"mixed_precision": True}
    assert "trained in bfloat16" in " ".join(tables(rows)[0].notes)


@pytest.mark.parametrize("form", ["text", "markdown", "html"])
def test_a_strangers_results_bring_no_markup_and_no_escape_sequences(form):
    evil = row("<script>x</script>|a", ca=0.5, asr=0.5) | {"plan": {"name": "p", "title": "\x1b[31m<b>t</b>"}}
    text = render(tables([evil]), form)
    assert "\x1b" not in text
    if form == "html":
        assert "<script>" not in text
        assert "&lt;script&gt;x&lt;/script&gt;|a" in text
    if form == "markdown":
        assert "<script>" not in text
        assert "\\|a" in text


def test_forms():
    found = tables([row(ca=0.8, asr=1.0)])
    assert "| badnets | 90.0 | 80.0 / 100.0 |" in render(found, "markdown")
    assert "<td>80.0 / 100.0</td>" in render(found, "html")
    assert "badnets  90.0        80.0 / 100.0" in render(found, "text")
    assert render([], "text") == ""


def test_what_another_images_trigger_does_has_a_column_where_it_was_measured():
    rows = [row("dynamic", ca=0.8, asr=0.99) | {"subject": {"ca": 0.8, "cross_asr": 0.043}}]
    rows += [row("blend", ca=0.8, asr=1.0) | {"subject": {"ca": 0.8}}]
    found = cells(tables(rows))
    assert (found["dynamic", "crossed"], found["blend", "crossed"]) == ("4.3", "")
    assert (found["average", "crossed"], found["average", "none"]) == ("", "80.0 / 99.5")
    assert any("drawn for one image works on another" in note for note in tables(rows)[0].notes)
    assert "crossed" not in tables(rows[1:])[0].columns
    never = tables([row("dynamic", ca=0.8, asr=1.0) | {"subject": {"cross_asr": 0.0}}])
    assert cells(never)["dynamic", "crossed"] == "0.0"
