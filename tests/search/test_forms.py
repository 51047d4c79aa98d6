"""Each form's slopes are those of what it stamps, and its steps lead to smaller changes."""

from __future__ import annotations

import pytest
import torch

from detrojan.errors import OptionError
from detrojan.search.forms import FORMS, Patch, form_named
from detrojan.triggers.patch import PatchTrigger

SHAPE = (3, 4, 5)


def parts(name, jobs=2, images=6):
    random = torch.Generator().manual_seed(3)
    form = form_named(name)
    raw = torch.stack([form.start(SHAPE, random) for _ in range(jobs)])
    if name == "additive":
        raw = torch.randn(raw.shape, generator=random) * 0.05
    pixels = torch.rand(jobs, images, 60, generator=random) * 0.6 + 0.2
    return form, raw, pixels, torch.randn(jobs, images, 60, generator=random)


@pytest.mark.parametrize("name", FORMS)
def test_the_slope_is_that_of_what_is_stamped(name):
    form, raw, pixels, weight = parts(name)
    leaf = raw.clone().requires_grad_(True)
    stamped = form.stamp(leaf, pixels, None)
    (expected,) = torch.autograd.grad((stamped * weight).sum(), leaf)
    out = torch.empty_like(pixels)
    form.stamp(raw, pixels, out)
    found = form.slope(raw, weight.clone(), pixels, out)
    if name == "additive":  # as if nothing were clipped, and nothing is here
        assert float(out.min()) > 0
        assert float(out.max()) < 1
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["patch", "pixel"])
def test_the_slope_of_the_size_is_its_derivative(name):
    form, raw, _, _ = parts(name)
    leaf = raw.clone().requires_grad_(True)
    (expected,) = torch.autograd.grad(form.size(leaf).sum(), leaf)
    torch.testing.assert_close(form.size_slope(raw), expected)


@pytest.mark.parametrize("name", FORMS)
def test_a_trigger_stamps_what_the_search_has_stamped(name):
    form, raw, pixels, _ = parts(name)
    out = form.stamp(raw, pixels, torch.empty_like(pixels))
    images = pixels[0].view(6, 4, 5, 3).permute(0, 3, 1, 2)
    trigger = form.trigger(raw[0], SHAPE)
    torch.testing.assert_close(trigger.stamp(images), out[0].view(6, 4, 5, 3).permute(0, 3, 1, 2))


@pytest.mark.parametrize("name", FORMS)
def test_a_change_that_works_is_made_smaller(name):
    form, raw, _, _ = parts(name)
    memory, before = form.begin(raw), form.size(raw)
    for step in range(40):
        works = torch.ones(len(raw), dtype=torch.bool)
        raw = form.descend(raw, torch.zeros_like(raw), works, memory, step)
    assert bool((form.size(raw) < 0.8 * before).all())


def test_a_change_that_does_not_work_may_grow():
    form, _, _, _ = parts("additive")
    raw = torch.zeros(1, 20, 3)
    memory, slope = form.begin(raw), torch.ones(1, 20, 3)
    sizes = []
    for step in range(10):
        raw = form.descend(raw, slope, torch.tensor([False]), memory, step)
        sizes.append(float(form.size(raw)))
    assert sizes[-1] > 1.5 * sizes[0]


def test_another_form_is_refused():
    with pytest.raises(OptionError, match="expected a form out of patch, pixel, additive, got 'warp'"):
        form_named("warp")


def test_a_patch_begins_a_search_as_it_is():
    mask = torch.zeros(1, 4, 6)
    mask[:, 1:3, 2:4] = 0.8
    given = PatchTrigger(mask, torch.rand(3, 4, 6, generator=torch.Generator().manual_seed(1)) * 0.8 + 0.1)
    begun = Patch().trigger(Patch.raw(given), (3, 4, 6))
    torch.testing.assert_close(begun.mask, mask.clamp(min=1e-3))
    there = (mask > 0).expand(3, -1, -1)
    torch.testing.assert_close(begun.pattern[there], given.pattern[there])
    torch.testing.assert_close(begun.pattern[~there], torch.full_like(begun.pattern[~there], 0.5))
