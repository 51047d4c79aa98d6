from __future__ import annotations

import math
from contextlib import contextmanager

import pytest
import torch
from torch import nn
from torch.nn import functional

from detrojan.errors import DataError, InterruptedRunError, LabelError
from detrojan.models.classifier import Classifier
from detrojan.models.preprocessing import Preprocessing
from detrojan.run import Run
from detrojan.search import inversion
from detrojan.search.inversion import invert
from detrojan.search.schedule import Schedule
from detrojan.search.slots import EPSILON

SHAPE, CLASSES, COUNT = (3, 10, 8), 5, 90


def smooth_network(layout: str = "NCHW") -> nn.Module:
    """A network without kinks, so that two ways to sum the same numbers stay close to each other."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        layers = [nn.Conv2d(3, 8, 3), nn.Softplus(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(96, CLASSES)]
        if layout == "NHWC":
            layers.insert(0, _ChannelsFirst())
        return nn.Sequential(*layers)


class _ChannelsFirst(nn.Module):
    def forward(self, images):
        return images.permute(0, 3, 1, 2)


@pytest.fixture
def model() -> Classifier:
    preprocessing = Preprocessing(low=-1, high=2, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    return Classifier(smooth_network(), SHAPE, preprocessing=preprocessing)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(COUNT, *SHAPE, generator=torch.Generator().manual_seed(8))


@pytest.fixture(scope="module")
def answers() -> torch.Tensor:
    return torch.arange(COUNT) % CLASSES


def reference(model, images, answers, label, plan, run):
    """One label, step by step, as the reference does it: autograd through the stamp, no batching."""
    channels, height, width = SHAPE
    start = torch.rand(height, width, 1 + channels, generator=run.generator("start", label))
    raw = torch.atanh((start - 0.5) * (2 - EPSILON)).requires_grad_()
    optimiser = torch.optim.Adam([raw], lr=plan.learning_rate, betas=plan.betas)
    allowed = [i for i in range(len(images)) if answers[i] != label]
    cost, set_counter, up, down, went_up, went_down = 0.0, 0, 0, 0, False, False
    best, best_l1, best_success, stale, stale_l1 = None, math.inf, 0.0, 0, math.inf
    passes = 0
    for step in range(plan.steps):
        hits = 0.0
        for part in range(plan.mini_batches):
            order = torch.randperm(len(allowed), generator=run.generator("batch", label, step, part))
            batch = images[[allowed[i] for i in order[: plan.batch_size]]]
            values = raw.tanh() / (2 - EPSILON) + 0.5
            mask, pattern = values[..., 0], values[..., 1:].permute(2, 0, 1)
            logits = model.logits((1 - mask) * batch + mask * pattern)
            target = torch.full((len(batch),), label)
            loss = functional.cross_entropy(logits, target) + cost * mask.sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            hits += float((logits.argmax(1) == target).float().mean()) / plan.mini_batches
            passes += len(batch)
        with torch.no_grad():
            values = raw.tanh() / (2 - EPSILON) + 0.5
        size = float(values[..., 0].sum())
        works = hits >= plan.threshold - 1e-9
        if works and size < best_l1:
            best, best_l1, best_success = values, size, hits
        if best is not None:
            stale = stale + 1 if best_l1 >= stale_l1 else 0
            stale_l1 = min(stale_l1, best_l1)
        if cost == 0:
            set_counter = set_counter + 1 if works else 0
            if set_counter >= plan.patience:
                cost = plan.initial_cost
        else:
            up, down = (up + 1, 0) if works else (0, down + 1)
            if up >= plan.patience:
                up, cost, went_up = 0, cost * plan.multiplier, True
            elif down >= plan.patience:
                down, cost, went_down = 0, cost / plan.multiplier**1.5, True
        if went_up and went_down and stale >= plan.early_stop:
            break
    found = values if best is None else best
    success = hits if best is None else best_success
    return found[..., 0], found[..., 1:].permute(2, 0, 1), success, best is not None, step + 1, passes


PLANS = {
    # the first steps: gradients, Adam and the random streams
    "few steps": Schedule(steps=3, mini_batches=2, batch_size=16),
    # the cost begins, rises and falls, and labels stop early
    "whole schedule": Schedule(
        steps=60,
        mini_batches=1,
        batch_size=24,
        learning_rate=0.2,
        initial_cost=0.02,
        threshold=0.9,
        patience=2,
        early_stop=4,
    ),
}


@pytest.mark.parametrize("name", PLANS)
def test_it_equals_an_independent_slow_reference(model, images, answers, name):
    plan, run = PLANS[name], Run(seed=4)
    found = invert(model, images, answers, range(CLASSES), plan, run=run)
    passes = 0
    for item in found.inverted:
        mask, pattern, success, converged, steps, spent = reference(
            model, images, answers, item.label, plan, run
        )
        torch.testing.assert_close(item.trigger.mask[0], mask, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(item.trigger.pattern, pattern, atol=1e-4, rtol=1e-4)
        assert (item.converged, item.steps) == (converged, steps)
        assert item.success == pytest.approx(success)
        assert item.mask_l1 == pytest.approx(float(mask.sum()), rel=1e-4, abs=1e-4)
        passes += spent
    assert found.passes == passes
    if name == "whole schedule":
        steps = [item.steps for item in found.inverted]
        assert min(steps) < plan.steps, "expected a label to stop early, else this plan tests little"
        assert len(set(steps)) > 1, "each label stops on its own"
        assert any(item.converged for item in found.inverted)


@pytest.mark.parametrize("samples_at_once", [16, 32, 48])
def test_labels_side_by_side_are_each_label_alone(model, images, answers, samples_at_once):
    plan = Schedule(steps=6, mini_batches=2, batch_size=16, patience=2, threshold=0.5)
    run = Run(seed=1)
    labels = [3, 0, 4, 1]
    together = invert(model, images, answers, labels, plan, run=run, samples_at_once=samples_at_once)
    alone = [invert(model, images, answers, [label], plan, run=run) for label in labels]
    assert [item.label for item in together.inverted] == labels
    assert together.passes == sum(one.passes for one in alone)
    for item, one in zip(together.inverted, alone, strict=True):
        (single,) = one.inverted
        torch.testing.assert_close(item.trigger.mask, single.trigger.mask, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(item.trigger.pattern, single.trigger.pattern, atol=1e-5, rtol=1e-5)
        assert (item.steps, item.success, item.converged) == (single.steps, single.success, single.converged)


def test_the_network_s_layout_makes_no_difference(model, images, answers):
    plan = Schedule(steps=3, mini_batches=2, batch_size=16)
    last = Classifier(
        smooth_network("NHWC"),
        SHAPE,
        preprocessing=Preprocessing(low=-1, high=2, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7), layout="NHWC"),
    )
    one, two = (invert(m, images, answers, [0, 1], plan, run=Run()) for m in (model, last))
    for a, b in zip(one.inverted, two.inverted, strict=True):
        torch.testing.assert_close(a.trigger.mask, b.trigger.mask, atol=1e-5, rtol=1e-5)


class Stopping:
    """Stops the inversion at its n-th advance, as a kill would."""

    def __init__(self, after: int) -> None:
        self.left = after

    @contextmanager
    def task(self, title, total=None):
        yield self

    def advance(self, amount=1, *, note=None):
        self.left -= 1
        if self.left == 0:
            raise InterruptedRunError("stopped by the test")


class Counting:
    """Adds up the progress, and remembers what was promised."""

    def __init__(self) -> None:
        self.total, self.done, self.first = 0.0, 0.0, None

    @contextmanager
    def task(self, title, total=None):
        self.total = total
        yield self

    def advance(self, amount=1, *, note=None):
        assert amount >= 0
        self.first = amount if self.first is None else self.first
        self.done += amount


def same(one, two) -> bool:
    return one.passes == two.passes and all(
        torch.equal(a.trigger.mask, b.trigger.mask)
        and torch.equal(a.trigger.pattern, b.trigger.pattern)
        and (a.label, a.success, a.converged, a.steps) == (b.label, b.success, b.converged, b.steps)
        for a, b in zip(one.inverted, two.inverted, strict=True)
    )


@pytest.mark.parametrize("after", [2, 9, 23, 31])
def test_an_interrupted_inversion_goes_on_as_if_nothing_had_happened(
    model, images, answers, after, tmp_path, monkeypatch
):
    monkeypatch.setattr(inversion, "SNAPSHOT_SECONDS", 0.0)
    monkeypatch.setattr(inversion.time, "monotonic", iter(range(10**6)).__next__)
    plan = Schedule(steps=12, mini_batches=2, batch_size=16, patience=2, threshold=0.5, early_stop=2)

    def result(**surroundings):
        run = Run(seed=6, **surroundings)
        return invert(model, images, answers, range(CLASSES), plan, run=run, samples_at_once=32)

    whole = result()
    with pytest.raises(InterruptedRunError):
        result(checkpoint=tmp_path, progress=Stopping(after))
    counting = Counting()
    resumed = result(checkpoint=tmp_path, progress=counting)
    assert same(resumed, whole)
    assert counting.total == CLASSES * plan.steps
    assert counting.done == pytest.approx(counting.total), "the progress ends at what it promised"
    assert (counting.first > 0) == (after > 2), "what was done before counts as done"


def test_finished_labels_are_not_computed_again(model, images, answers, tmp_path, monkeypatch):
    plan = Schedule(steps=4, mini_batches=2, batch_size=16)
    spent = []
    gradient = inversion._Inverter._gradient
    monkeypatch.setattr(
        inversion._Inverter,
        "_gradient",
        lambda self, part: spent.append(self.slots["label"].tolist()) or gradient(self, part),
    )

    def result(**surroundings):
        run = Run(seed=6, **surroundings)
        return invert(model, images, answers, [0, 1, 2], plan, run=run, samples_at_once=16)

    # one label at a time, 4 steps each; stopped in the second label's third step
    with pytest.raises(InterruptedRunError):
        result(checkpoint=tmp_path, progress=Stopping(1 + 4 + 3))
    spent.clear()
    resumed = result(checkpoint=tmp_path)
    assert {label for labels in spent for label in labels} == {1, 2}
    assert same(resumed, result())
    spent.clear()
    assert same(result(checkpoint=tmp_path), resumed)
    assert spent == [], "nothing is left to do"


def test_a_state_of_other_work_is_not_taken_over(model, images, answers, tmp_path):
    plan = Schedule(steps=2, mini_batches=1, batch_size=16)
    run = Run(seed=1, checkpoint=tmp_path)
    invert(model, images, answers, [0, 1], plan, run=run)
    other = images.flip(0)
    fresh = invert(model, other, answers, [0, 1], plan, run=Run(seed=1))
    assert same(invert(model, other, answers, [0, 1], plan, run=run), fresh)


def test_images_of_the_label_itself_are_not_used(images):
    """The label's own images answer by a single pixel: with them in, the success would be partial."""
    own = torch.arange(COUNT) % 3 == 0
    marked = images.clone()
    marked[:, 0, 0, 0] = own.float()
    seen = []

    class Watching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = smooth_network()

        def forward(self, batch):
            if float(batch.detach().amin()) > -1:  # what looks at values is searched as it is, not rewritten
                seen.append(batch.detach().clone())
            return self.body(batch)

    run = Run(seed=2)
    plan = Schedule(steps=5, mini_batches=2, batch_size=16)
    watched = Classifier(Watching(), SHAPE)
    seen.clear()
    invert(watched, marked, torch.where(own, 1, 0), [1], plan, run=run)
    stamped = torch.cat([batch for batch in seen if len(batch) == 16])
    assert len(stamped) == 5 * 2 * 16
    # without the pixel, only the trigger changes it, by the same amount in all images of a batch
    assert all(batch[:, 0, 0, 0].std() < 1e-6 for batch in stamped.split(16))
    seen.clear()
    invert(watched, marked, torch.where(own, 1, 0), [2], plan, run=run)
    stamped = torch.cat([batch for batch in seen if len(batch) == 16])
    assert any(batch[:, 0, 0, 0].std() > 1e-3 for batch in stamped.split(16)), "all images are other classes'"


def test_the_mini_batch_shrinks_to_the_images_there_are(model, images):
    answers = torch.zeros(COUNT, dtype=torch.int64)
    answers[:7] = 1
    plan = Schedule(steps=2, mini_batches=3, batch_size=32)
    assert invert(model, images, answers, [0], plan, run=Run()).passes == 2 * 3 * 7


def test_the_model_is_left_as_it_was(model, images, answers):
    model.network.train()
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    invert(model, images, answers, [0], Schedule(steps=2, mini_batches=1, batch_size=16), run=Run())
    assert all(torch.equal(before[name], value) for name, value in model.network.state_dict().items())
    assert model.network.training
    assert all(p.requires_grad and p.grad is None for p in model.network.parameters())


def test_images_of_one_class_only_are_refused(model, images):
    answers = torch.full((COUNT,), 2)
    with pytest.raises(DataError, match=r"expected images of classes other than 2, .* input range right\?"):
        invert(model, images, answers, [0, 2], Schedule(steps=1), run=Run())


@pytest.mark.parametrize("labels", [[], [1, 1], [0, 5], [-1]])
def test_labels_that_cannot_be_inverted_are_refused(model, images, answers, labels):
    with pytest.raises(LabelError, match=r"expected one label or more of 0 to 4, each once, got \["):
        invert(model, images, answers, labels, Schedule(steps=1), run=Run())


def test_images_of_another_shape_are_refused(model, answers):
    with pytest.raises(DataError, match="expected colour images 10 high x 8 wide x 3"):
        invert(model, torch.rand(COUNT, 3, 8, 8), answers, [0], Schedule(steps=1), run=Run())
