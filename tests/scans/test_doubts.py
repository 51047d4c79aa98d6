from __future__ import annotations

from types import SimpleNamespace

import pytest

from detrojan.judging.evidence import Evidence
from detrojan.judging.policy import POLICY
from detrojan.scans.cascade import Cascade
from detrojan.scans.doubts import doubt_of
from detrojan.search.jobs import Job
from detrojan.triggers.aim import Aim

REACH = {"patch": 5.0, "additive": 1.0}


def entry(label: int, p_value: float, ratio: float = 0.3) -> Evidence:
    ratios = {"both": ratio}
    return Evidence(
        job=Job(Aim(target=label)), sizes=ratios, ratios=ratios, p_value=p_value, by="both", index=3, found={}
    )


def doubt(
    *evidence: Evidence, natural=(), crowd=(), made_up=False, tested=(0, 1, 2), success=1.0, reach=REACH
) -> str:
    work = SimpleNamespace(
        crowd=lambda: list(crowd),
        natural_ones=lambda: list(natural),
        shown=lambda _: (None, "patch", success),
        ready=SimpleNamespace(tested=list(tested), made_up=made_up),
        method=Cascade(),
    )
    return doubt_of(work, evidence, reach)


def test_where_nothing_is_odd_there_is_no_doubt():
    assert doubt(entry(1, POLICY.suspect_chance)) == ""
    assert doubt(entry(1, 0.1, ratio=POLICY.suspect_ratio + 0.01)) == ""
    assert doubt() == ""


def test_a_natural_feature_is_named_with_its_figures_even_where_it_is_not_suspicious_by_size():
    one = entry(1, 0.0051, ratio=0.39)
    assert doubt(one, natural=[one]) == (
        "label 1 needs a trigger of 39% of the usual size (p = 0.0051), but the network's features move "
        "towards the label's own images, as they do for other labels: it may be a natural "
        "feature; look closer at it"
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"tested": [0]}, "label 1, which was not to be tested, only drawn for comparison"),
        ({"success": 0.5}, "which works on 50% of the held-out images only: look closer at it"),
    ],
)
def test_a_suspect_is_named_with_the_reason_why_it_is_not_flagged(given, said):
    assert said in doubt(entry(1, 0.01), **given)


def test_what_may_be_chance_is_said_to_be():
    assert doubt(entry(2, 0.06)) == (
        "label 2 needs a trigger of 30% of the usual size, which may be chance among so many labels "
        "(p = 0.06): look closer at it"
    )


def test_a_crowd_made_up_images_and_too_few_triggers_are_said():
    assert doubt(crowd=[entry(4, 0.001), entry(5, 0.001)]).startswith(
        "labels 4, 5 need small triggers, too many"
    )
    assert "made-up images cannot show there is none" in doubt(made_up=True)
    assert "too few triggers were found" in doubt(reach=dict.fromkeys(REACH, 0.0))
