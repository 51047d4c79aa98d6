from __future__ import annotations

import pytest
import torch

from detrojan.errors import AnswersOnlyError, DataError, OptionError
from detrojan.guards.auto import Auto, fused
from detrojan.guards.bundle import load_guard, save_guard
from detrojan.metrics.detection import detection
from detrojan.models.blackbox import BlackBox
from detrojan.run import Run
from twins import TARGET, few_signs

RUN = Run(seed=1, device="cpu")
CHEAP = Auto(frr=0.05, parts="mahalanobis,ted")


@pytest.fixture(scope="module")
def clean():
    return few_signs(300, 11)


@pytest.fixture(scope="module")
def made(twins, clean):
    return CHEAP.calibrate(twins.backdoored, clean, run=RUN)


def test_parts_catch_together_what_they_were_asked_for(twins, made):
    images = twins.test.images[:300]
    bad = twins.trigger.stamp(images[twins.test.labels[:300] != TARGET])
    found = detection(made.score(images), made.score(bad), made.threshold)
    alone = [part.score(images) for part in made.parts], [part.score(bad) for part in made.parts]
    worst = min(detection(*pair, 0).auroc for pair in zip(*alone, strict=True))
    assert found.frr < 0.15
    assert found.auroc > max(0.8, worst - 0.01)


def test_the_boundary_rejects_as_many_of_its_own_half_as_asked(made):
    assert 0.01 <= float(made.suspicious(made.clean_scores).double().mean()) <= 0.06


def test_the_score_is_the_sum_and_the_most_surprised_part_is_blamed(twins, made):
    images = twins.trigger.stamp(twins.test.images[:6])
    each = made.each(images)
    assert torch.equal(made.score(images), fused(each))
    assert torch.equal(fused(each), each.sum(1))
    names = [part.method.name for part in made.parts]
    assert made.blamed(images) == [names[place] for place in each.argmax(1).tolist()]


def test_a_saved_guard_answers_as_before(twins, made, tmp_path):
    again = load_guard(save_guard(made, tmp_path), twins.backdoored)
    images = twins.test.images[:5]
    assert torch.equal(again.score(images), made.score(images))
    assert [part.method for part in again.parts] == [part.method for part in made.parts]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"parts": {}}, "expected the parts of the guard"),
        ({"parts": {"strip": {"hyper_parameters": {}, "values": {}}}}, "learns on one half"),
        ({"parts": {"nothing": {"hyper_parameters": {}, "values": {}}}}, "its parts make no guard"),
        ({"parts": {"ted": {}}}, "its parts make no guard"),
    ],
)
def test_damaged_files_are_refused(twins, made, tmp_path, monkeypatch, change, said):
    tensors, values = made.state()
    monkeypatch.setattr(type(made), "state", lambda _self: (tensors, values | change))
    with pytest.raises(DataError, match=said):
        load_guard(save_guard(made, tmp_path), twins.backdoored)


def test_a_model_that_only_answers_gets_the_parts_that_need_no_more(twins, clean):
    def ask(images):
        return twins.backdoored.logits(torch.as_tensor(images)).detach()

    model = BlackBox(ask, twins.test.shape)
    assert [part.name for part in Auto().chosen(model)] == ["consistency"]
    assert [part.name for part in Auto().chosen(twins.backdoored)][-1] == "badexpert"
    with pytest.raises(AnswersOnlyError, match="mahalanobis needs the network's weights"):
        CHEAP.calibrate(model, clean, run=RUN)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ("strip", "learn on one half"),
        ("auto", "learn on one half"),
        ("ted,ted", "each part once"),
        ("no", "got 'no'"),
    ],
)
def test_parts_that_make_no_guard_are_refused(parts, said):
    with pytest.raises(OptionError, match=said):
        Auto(parts=parts)
