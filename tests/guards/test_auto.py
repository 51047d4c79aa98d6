from __future__ import annotations

import pytest
import torch

from detrojan.errors import AnswersOnlyError, DataError, ModelError, OptionError
from detrojan.guards.auto import Auto, fused
from detrojan.guards.bundle import load_guard, save_guard
from detrojan.guards.ted import Ted
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


def test_the_boundary_rejects_as_many_of_its_own_images_as_asked(made):
    assert 0.02 <= float(made.suspicious(made.clean_scores).double().mean()) <= 0.09


def test_the_score_is_the_sum_and_the_most_surprised_part_is_blamed(twins, made):
    images = twins.trigger.stamp(twins.test.images[:6])
    each = made.each(images)
    assert torch.allclose(made.score(images), each.sum(1))
    names = [part.method.name for part in made.parts]
    assert made.blamed(images) == [names[place] for place in each.argmax(1).tolist()]


def test_consistency_counts_twice_and_found_triggers_once(twins, clean):
    part = clean.select(slice(40))
    made = Auto(frr=0.05, parts="consistency,mahalanobis").calibrate(twins.backdoored, part, run=RUN)
    each = made.each(part.images[:5])
    assert torch.allclose(made.score(part.images[:5]), 2 * each[:, 0] + each[:, 1])
    assert fused(torch.tensor([[1.0, 10.0, 100.0]]), (2.0, 1.0)).tolist() == [112.0]


def test_a_saved_guard_answers_as_before(twins, made, tmp_path):
    again = load_guard(save_guard(made, tmp_path), twins.backdoored)
    images = twins.test.images[:5]
    assert torch.equal(again.score(images), made.score(images))
    assert torch.equal(again.clean_images(), made.clean_images())
    assert len(made.clean_images()) == 50
    assert [part.method for part in again.parts] == [part.method for part in made.parts]


def test_a_guard_of_an_older_version_is_read(twins, made, tmp_path, monkeypatch):
    """It has learned from one half of the images, holds none of them, and all of its parts count once."""
    tensors, values = made.state()
    for one in values["parts"].values():
        assert one.pop("weight") == 1
    scores = {name: one[::2] for name, one in tensors.items() if name.endswith("clean_scores")}
    older = {name: one for name, one in tensors.items() if name != "others"} | scores
    monkeypatch.setattr(type(made), "state", lambda _self: (older, values))
    again = load_guard(save_guard(made, tmp_path), twins.backdoored)
    assert again.clean_images().shape == (0, *twins.test.shape)
    assert again.weights == (1, 1)
    assert again.refuses(twins.test.images[:5]).shape == (5,)


def test_a_part_that_does_not_suit_the_network_is_left_out_and_said_so(twins, clean, monkeypatch):
    def none(*_args, **_how):
        raise ModelError("expected a network of two layers or more")

    monkeypatch.setattr(Ted, "crossed", none)
    monkeypatch.setattr("detrojan.guards.auto._PARTS", ("mahalanobis", "ted"))
    found = Auto(frr=0.05).calibrate(twins.backdoored, clean, run=RUN)
    assert [part.method.name for part in found.parts] == ["mahalanobis"]
    assert "the part ted is left out: expected a network of two layers" in found.warnings[0]
    with pytest.raises(ModelError, match="two layers or more"):
        CHEAP.calibrate(twins.backdoored, clean, run=RUN)
    monkeypatch.setattr("detrojan.guards.auto._PARTS", ("ted",))
    with pytest.raises(ModelError, match="expected a network that suits a part of the guard; the part ted"):
        Auto(frr=0.05).calibrate(twins.backdoored, clean, run=RUN)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"parts": {}}, "expected the parts of the guard"),
        ({"parts": {"strip": {"hyper_parameters": {}, "values": {}}}}, "learns from clean images"),
        ({"parts": {"nothing": {"hyper_parameters": {}, "values": {}}}}, "its parts make no guard"),
        ({"parts": {"ted": {}}}, "its parts make no guard"),
    ],
)
def test_damaged_files_are_refused(twins, made, tmp_path, monkeypatch, change, said):
    tensors, values = made.state()
    monkeypatch.setattr(type(made), "state", lambda _self: (tensors, values | change))
    with pytest.raises(DataError, match=said):
        load_guard(save_guard(made, tmp_path), twins.backdoored)


@pytest.mark.parametrize("weight", [0, -1, "2", None, True])
def test_a_weight_that_is_no_number_above_0_is_refused(twins, made, tmp_path, monkeypatch, weight):
    tensors, values = made.state()
    values["parts"]["ted"]["weight"] = weight
    monkeypatch.setattr(type(made), "state", lambda _self: (tensors, values))
    with pytest.raises(DataError, match="expected a weight above 0 of ted"):
        load_guard(save_guard(made, tmp_path), twins.backdoored)


def test_a_model_that_only_answers_gets_the_parts_that_need_no_more(twins, clean):
    def ask(images):
        return twins.backdoored.logits(torch.as_tensor(images)).detach()

    model = BlackBox(ask, twins.test.shape)
    assert [part.name for part in Auto().chosen(model)] == ["consistency"]
    assert [part.name for part in Auto().chosen(twins.backdoored)] == ["consistency", "mahalanobis", "ted"]
    assert [part.name for part in Auto(parts="badexpert").chosen(twins.backdoored)] == ["badexpert"]
    with pytest.raises(AnswersOnlyError, match="mahalanobis needs the network's weights"):
        CHEAP.calibrate(model, clean, run=RUN)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ("strip", "learn from clean images"),
        ("auto", "learn from clean images"),
        ("ted,ted", "each part once"),
        ("no", "got 'no'"),
    ],
)
def test_parts_that_make_no_guard_are_refused(parts, said):
    with pytest.raises(OptionError, match=said):
        Auto(parts=parts)
