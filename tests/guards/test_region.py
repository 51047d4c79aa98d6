from __future__ import annotations

import pytest
import torch

from blobs import SIDE, TARGET
from detrojan.errors import DataError
from detrojan.guards.region import Region, find_region
from twins import TARGET as TWIN_TARGET


def overlap(region: Region | None, mask: torch.Tensor) -> tuple[float, float]:
    """Return which share of the mask (H, W) the region covers, and which share of the region is the mask."""
    if region is None:
        return 0.0, 0.0
    found = torch.zeros_like(mask)
    found[region.top : region.top + region.height, region.left : region.left + region.width] = 1
    both = float((found * mask).sum())
    return both / float(mask.sum()), both / float(found.sum())


def check_marked(model, stamped, labels, trigger, target, others):
    """Of some stamped images, almost all have the trigger marked, and no large part of the rest."""
    shares, right = [], 0
    for image, label in zip(stamped, labels.tolist(), strict=True):
        region = find_region(model, image, others)
        shares.append(overlap(region, trigger.mask[0]))
        if region is not None:
            assert region.label == target
            right += region.without == label
    covered, own = torch.tensor(shares).unbind(1)
    assert float(covered.median()) >= 0.5
    assert float(own.median()) >= 0.4
    assert float((covered > 0.2).double().mean()) >= 0.75
    return right / len(stamped)


def test_a_stickered_sign_has_its_sticker_marked(twins):
    victims = twins.test.labels != TWIN_TARGET
    images, labels = twins.test.images[victims][:6], twins.test.labels[victims][:6]
    stamped = twins.trigger.stamp(images)
    won = twins.backdoored.answers(stamped) == TWIN_TARGET
    back = check_marked(
        twins.backdoored, stamped[won], labels[won], twins.trigger,
        TWIN_TARGET, twins.test.images[-60:],
    )  # fmt: skip
    assert back >= 0.5  # without the sticker most signs are what they are


@pytest.mark.parametrize("others", [True, False])
def test_a_patch_is_marked_with_and_without_other_images(dark, others):
    labels = dark.test.labels[dark.test.labels != TARGET][:4]
    clean = dark.data.images[:40] if others else dark.data.images[:0]
    check_marked(dark.backdoored, dark.stamped[:4], labels, dark.trigger, TARGET, clean)


def test_the_figures_are_those_of_the_region(dark):
    clean = dark.data.images[:40]
    region = find_region(dark.backdoored, dark.stamped[0], clean)
    assert region is not None
    assert region.removed >= 0.9
    assert region.carried is not None
    assert region.carried >= 0.9
    assert region.without != region.label == TARGET
    assert 0 <= region.top < region.top + region.height <= SIDE
    without = find_region(dark.backdoored, dark.stamped[0], clean[:0])
    assert without is None or without.carried is None


def test_an_answer_that_rests_on_no_part_has_no_region(dark):
    class Always(torch.nn.Module):
        def forward(self, images):
            return torch.tensor([0.0, 5.0]).expand(len(images), 2)

    from detrojan.models.classifier import Classifier  # noqa: PLC0415

    model = Classifier(Always(), (1, SIDE, SIDE))
    assert find_region(model, dark.stamped[0], dark.data.images[:20]) is None


def test_an_image_of_another_shape_is_refused(dark):
    with pytest.raises(DataError, match="expected grey images 20 high x 20 wide"):
        find_region(dark.backdoored, torch.zeros(3, 20, 20), dark.data.images[:4])
