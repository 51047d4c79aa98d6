from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from detrojan.data.dataset import Dataset
from detrojan.errors import DataError, LabelError, OptionError
from detrojan.findings import PIXELS, Finding
from detrojan.metrics.accuracy import clean_accuracy
from detrojan.metrics.leads import leads
from detrojan.repairs.adversarial import Adversarial, random_regions, vary
from detrojan.run import Run
from detrojan.store import digest
from detrojan.triggers.aim import Aim
from twins import CLASSES, few_signs, sticker, trained

#: a small network learns faster and from fewer rounds than the networks the defaults are for
PLAN = Adversarial(rounds=3, pool=8, steps=10, updates=50, batch_size=64, learning_rate=1e-3)
#: no effect is asked of it
BRIEF = dataclasses.replace(PLAN, rounds=2, pool=4, steps=2, updates=2)


@pytest.fixture(scope="module")
def taught(case):
    return PLAN.repair(case.twins.backdoored, case.data, case.findings, run=Run(seed=2))


# --- the effect -------------------------------------------------------------------------------------


def test_the_attacker_s_trigger_is_dead_and_the_accuracy_is_kept(case, taught):
    assert case.true_success(taught.model) < 0.05
    assert case.recovered_success(taught.model) < 0.1
    assert case.accuracy(taught.model) >= case.accuracy(case.twins.backdoored) - 0.06


def test_fresh_triggers_get_harder_to_find(taught):
    (step,) = taught.steps
    assert list(step.curves) == ["round", "pool success", "recovered trigger success", "clean accuracy"]
    assert step.curves["round"] == [1, 2, 3]
    pool = step.curves["pool success"]
    assert pool[0] > 0
    assert pool[-1] / pool[0] < 0.8
    assert step.curves["recovered trigger success"][-1] < 0.05
    assert step.curves["clean accuracy"][-1] > 0.9
    assert step.method == "adversarial"
    assert step.summary == (
        f"3 rounds against 8 triggers each: a fresh pool's success went from {pool[0]:.1%} to {pool[-1]:.1%}"
    )


def test_what_it_keeps_is_called_agreement_where_there_are_no_labels(case):
    made = BRIEF.repair(case.twins.backdoored, case.data.with_labels(None), case.findings, run=Run())
    assert list(made.steps[0].curves)[-1] == "agreement"


def test_it_kills_the_attacker_s_trigger_without_knowing_it(case, taught, made_up):
    """With a trigger that means nothing in the finding, only the pool is left to do the work."""
    made = PLAN.repair(case.twins.backdoored, case.data, [made_up], run=Run(seed=2))
    assert case.true_success(made.model) < 0.3


def test_a_clean_network_loses_hardly_anything(case, made_up):
    clean = case.twins.clean
    made = PLAN.repair(clean, case.data, [made_up], run=Run(seed=2))
    assert case.accuracy(made.model) >= case.accuracy(clean) - 0.03


def test_it_works_without_labels(case):
    model = case.twins.backdoored
    images = case.data.with_labels(None)
    made = PLAN.repair(model, images, case.findings, run=Run(seed=2))
    assert made.steps[0].details == {"labelled": False, "images": len(images)}
    assert case.true_success(made.model) < 0.05
    assert case.accuracy(made.model) > case.accuracy(model) - 0.06
    own = case.twins.test.labels == case.finding.label
    kept = made.model.answers(case.twins.test.images[own]) == case.finding.label
    assert float(kept.float().mean()) > 0.7


@pytest.fixture(scope="module")
def stepping():
    """A network that a sticker makes answer each sign with the next one, and what a scan says of it."""
    train, trigger = few_signs(1200, 1), sticker(5)
    chosen = torch.arange(len(train)) % 3 == 0
    images, labels = train.images.clone(), train.labels.clone()
    images[chosen], labels[chosen] = trigger.stamp(images[chosen]), (labels[chosen] + 1) % CLASSES
    found = Finding(
        label=0,
        anomaly_index=9.0,
        aim=Aim(offset=1),
        size=16.0,
        unit=PIXELS,
        attack_success=1.0,
        flagged=True,
        trigger=sticker(4),  # not the attacker's
    )
    each = [dataclasses.replace(found, label=label) for label in range(CLASSES)]
    (lead,) = leads(each)
    return trained(Dataset(images, labels), seed=0), dataclasses.replace(lead, trigger=trigger), each


def test_an_all_to_all_backdoor_is_unlearned_with_one_pool_for_all_its_labels(stepping):
    model, lead, findings = stepping
    data, test = few_signs(400, 5), few_signs(600, 2)
    assert lead.success(model, test.images, test.labels) > 0.8
    made = PLAN.repair(model, data, findings, run=Run(seed=2))
    assert made.steps[0].summary.startswith("3 rounds against 8 triggers each: ")
    assert lead.success(made.model, test.images, test.labels) < 0.3
    assert clean_accuracy(made.model, test) > clean_accuracy(model, test) - 0.1


# --- what is promised -------------------------------------------------------------------------------


def test_the_model_given_is_not_touched(case):
    model = case.twins.backdoored
    before = digest(model.network)
    made = BRIEF.repair(model, case.data, case.findings, run=Run(seed=2))
    assert digest(model.network) == before
    assert digest(made.model.network) != before
    assert not made.model.network.training
    assert all(p.requires_grad for p in made.model.network.parameters())


def test_the_same_seed_gives_the_same_network(case):
    def result(seed: int) -> str:
        few = case.data.select(slice(128))
        made = BRIEF.repair(case.twins.backdoored, few, case.findings, run=Run(seed=seed))
        return digest(made.model.network)

    assert result(1) == result(1)
    assert result(1) != result(2)


def test_each_label_has_a_pool_of_its_own(case, made_up):
    findings = [case.finding, dataclasses.replace(made_up, label=0, aim=Aim(target=0))]
    made = BRIEF.repair(case.twins.backdoored, case.data, findings, run=Run(seed=2))
    assert made.steps[0].summary.startswith("2 rounds against 8 triggers each: ")


@pytest.mark.parametrize("free", [0.0, 0.9])
def test_a_pool_may_have_free_masks_only_or_none(case, free):
    plan = dataclasses.replace(BRIEF, free=free, pool=2)
    made = plan.repair(case.twins.backdoored, case.data, case.findings, run=Run(seed=2))
    assert made.model.all_logits(case.data.images[:8]).isfinite().all()


@pytest.mark.parametrize("changed", [{"forget": 5.0}, {"restore": 1.0}])
def test_a_checkpoint_of_other_weights_of_the_loss_is_not_taken_over(case, changed, tmp_path):
    other = dataclasses.replace(BRIEF, rounds=1, **changed)

    def result(plan: Adversarial, run: Run) -> str:
        return digest(plan.repair(case.twins.backdoored, case.data, case.findings, run=run).model.network)

    kept = Run(seed=1, checkpoint=tmp_path)
    result(dataclasses.replace(BRIEF, rounds=1), kept)
    assert result(other, kept) == result(other, Run(seed=1))


# --- regions and variations -------------------------------------------------------------------------


def regions(count: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    return random_regions(count, height, width, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("height", "width"), [(32, 32), (55, 47), (12, 16)])
def test_regions_are_masks_of_the_images_size(height, width):
    masks = regions(300, height, width)
    assert masks.shape == (300, height, width)
    assert masks.dtype == torch.float32
    assert float(masks.min()) == 0
    assert float(masks.max()) == 1
    assert (masks.flatten(1).amax(1) > 0).all(), "no region is empty"


def test_regions_are_of_many_sizes_places_and_opacities():
    masks = regions(1000, 64, 64)
    area = (masks > 0).float().mean((1, 2))
    # one pixel row more or less, and what sticks out of the image is cut off
    assert float(area.max()) < 0.40
    assert float(area.max()) > 0.3
    assert float(area.min()) < 0.01
    opacity = masks.flatten(1).amax(1)
    assert ((masks == 0) | (masks == opacity[:, None, None])).all(), "each region has one opacity"
    assert float(opacity.min()) >= 0.4
    assert 0.6 < float((opacity == 1).float().mean()) < 0.8
    covered = (masks > 0).float().mean(0)
    assert float(covered.min()) > 0.02, "every pixel is in some region"
    boxes = 0
    for mask in masks > 0:
        rows, columns = mask.any(1), mask.any(0)
        boxes += int((mask == rows[:, None] & columns[None]).all())
    assert 550 < boxes < 800, "rectangles, and ellipses of which some are cut to rectangles"


def test_the_largest_regions_keep_to_their_share_of_the_area():
    """An ellipse of a radius without its factor would be larger than the rectangle of its area."""
    masks = regions(1000, 100, 100) > 0
    inside = ~(masks[:, 0].any(1) | masks[:, -1].any(1) | masks[:, :, 0].any(1) | masks[:, :, -1].any(1))
    share = masks[inside].float().mean((1, 2))
    assert int(inside.sum()) > 150
    assert float(share.min()) == pytest.approx(0.01, abs=0.005)
    assert float(share.max()) <= 0.385


def test_regions_depend_on_the_generator_alone():
    assert torch.equal(regions(9, 20, 20, 1), regions(9, 20, 20, 1))
    assert not torch.equal(regions(9, 20, 20, 1), regions(9, 20, 20, 2))
    assert regions(0, 20, 20).shape == (0, 20, 20)


def test_variations_are_images_that_differ_from_their_originals():
    images = torch.rand(64, 3, 20, 24, generator=torch.Generator().manual_seed(1))
    before = images.clone()
    one, same, other = (vary(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(images, before)
    assert one.shape == images.shape
    assert 0 <= float(one.min()) <= float(one.max()) <= 1
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert ((one - images).abs().flatten(1).mean(1) > 0.01).all()


def test_variations_keep_what_is_in_the_image():
    """A flat image stays flat and near its grey, unless blended with at most as much of another."""
    grey = torch.linspace(0.3, 0.7, 200)[:, None, None, None].expand(200, 3, 8, 8).contiguous()
    varied = vary(grey, torch.Generator().manual_seed(1))
    assert float(varied.flatten(1).std(1).max()) < 1e-5
    assert float((varied - grey).abs().max()) < 0.2 + 0.2 + 0.1 + 1e-6
    correlation = torch.corrcoef(torch.stack([varied[:, 0, 0, 0], grey[:, 0, 0, 0]]))[0, 1]
    assert float(correlation) > 0.7


# --- what is refused --------------------------------------------------------------------------------


def test_findings_without_a_trigger_are_refused(case):
    for findings, got in (
        ([], "no findings"),
        ([dataclasses.replace(case.finding, trigger=None)], "0 of 1 with one"),
    ):
        with pytest.raises(OptionError, match=f"expected findings with .* for adversarial, got {got}"):
            Adversarial().repair(case.twins.backdoored, case.data, findings, run=Run())


def test_what_does_not_fit_the_network_is_refused(case):
    model = case.twins.backdoored
    with pytest.raises(DataError, match=r"expected colour images 28 high x 28 wide .*, got 32 x 32 x 3"):
        BRIEF.repair(model, Dataset(torch.zeros(4, 3, 32, 32)), case.findings, run=Run())
    beyond = dataclasses.replace(case.finding, label=8, aim=Aim(target=8))
    with pytest.raises(LabelError, match="expected findings of labels 0 to 7, got 8"):
        BRIEF.repair(model, case.data, [beyond], run=Run())
    own = case.data.select(case.data.labels == case.finding.label)
    with pytest.raises(LabelError, match="expected images of classes other than the target 3, got none"):
        BRIEF.repair(model, own, case.findings, run=Run())


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"rounds": 0}, "expected rounds, steps and updates of 1 or more, .* got 0, 20, 60, 16, 128"),
        ({"steps": 0}, "expected rounds, steps and updates of 1 or more"),
        ({"updates": 0}, "expected rounds, steps and updates of 1 or more"),
        ({"pool": 1}, "pool and batch_size of 2 or more, got .* 1, 128"),
        ({"batch_size": 1}, "pool and batch_size of 2 or more, got .* 16, 1$"),
        ({"free": 1.0}, r"expected free in \[0, 1\) and stamped in \(0, 1\), got 1 and 0.33"),
        ({"stamped": 0.0}, r"stamped in \(0, 1\), got 0.25 and 0$"),
        (
            {"learning_rate": 0.0},
            "learning_rate and forget above 0, restore and restore_each of 0 or more, got 0,",
        ),
        ({"forget": math.nan}, "forget above 0, .*, got .*, nan, "),
        ({"restore": -1.0}, "restore_each of 0 or more, got .*, -1 and "),
        ({"restore_each": -1.0}, "restore_each of 0 or more, got .* and -1$"),
    ],
)
def test_values_out_of_range_are_refused(wrong, text):
    with pytest.raises(OptionError, match=text):
        Adversarial(**wrong)
