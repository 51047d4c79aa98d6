from __future__ import annotations

import json
import math

import pytest
import torch

from detrojan.data.dataset import Dataset
from detrojan.errors import DataError, OptionError
from detrojan.guards.bundle import load_guard, save_guard
from detrojan.guards.sequential_strip import SequentialStrip
from detrojan.guards.strip import Strip
from detrojan.metrics.detection import detection
from detrojan.models.blackbox import BlackBox
from detrojan.models.classifier import Classifier
from detrojan.run import Run

HOW = {"frr": 0.02, "copies": 100}


@pytest.fixture(scope="module")
def pair(dark):
    """STRIP and its sequential form, set up in the same way."""
    return tuple(
        kind(**HOW).calibrate(dark.backdoored, dark.data, run=Run(seed=1))
        for kind in (Strip, SequentialStrip)
    )


def test_it_decides_as_strip_does_from_few_copies(dark, pair):
    plain, guard = pair
    assert (plain.threshold, plain.fit) == (guard.threshold, guard.fit)
    for images, most in ((dark.test.images, 0.03), (dark.stamped, 1.0)):
        found, wanted = guard.decided(images), plain.refuses(images)
        rejected = guard.suspicious(-found.entropies)
        assert float((wanted & ~rejected).double().mean()) <= 0.02  # passes early
        assert float((rejected & ~wanted).double().mean()) <= most  # is rejected early
        assert float(found.copies.double().mean()) < 25
        assert int(found.copies.max()) <= 100
    told = [detection(one.score(dark.test.images), one.score(dark.stamped), one.threshold) for one in pair]
    assert told[1].far <= told[0].far + 0.02
    assert told[1].auroc > 0.95
    assert guard.plan.copies < 25


def test_what_all_copies_decide_is_what_strip_says(dark, pair):
    plain, guard = pair
    images = torch.cat([dark.test.images[:60], dark.stamped[:60]])
    found, wanted = guard.decided(images), plain.entropies(images)
    known = plain.copy_entropies(images)
    again = guard.replayed(known, guard.plan.deficit)
    assert torch.equal(found.copies, again.copies)
    assert torch.allclose(found.entropies, again.entropies, atol=1e-5)
    unhurried = guard.replayed(known, math.inf)
    late = unhurried.entropies <= guard.boundary
    assert late.sum() > 40
    assert bool((wanted[late] <= guard.boundary).all())
    assert bool((unhurried.copies[late] >= 50).all())


def test_an_answer_does_not_depend_on_the_other_inputs(dark, pair):
    guard, images = pair[1], dark.test.images[:12]
    alone = [guard.decided(image[None]) for image in images]
    together = guard.decided(images)
    assert torch.cat([one.copies for one in alone]).tolist() == together.copies.tolist()
    assert torch.allclose(torch.cat([one.entropies for one in alone]), together.entropies, atol=1e-5)
    assert len(guard.score(images[:0])) == 0


@pytest.mark.parametrize("mode", ["add", "balance", "blend"])
@pytest.mark.parametrize("copies", [1, 13])
def test_every_way_of_mixing_and_odd_numbers_of_copies(dark, mode, copies):
    for way in (mode, "both"):
        how = {"copies": copies, "mode": way, "frr": 0.05}
        plain = Strip(**how).calibrate(dark.backdoored, dark.data, run=Run(seed=1))
        guard = SequentialStrip(**how, early_passes=1e-9).calibrate(
            dark.backdoored, dark.data, run=Run(seed=1)
        )
        images = dark.test.images[:50]
        never = guard.replayed(plain.copy_entropies(images), math.inf)
        assert torch.equal(never.entropies <= guard.boundary, plain.refuses(images))


def test_of_a_model_that_only_answers_it_asks_few_questions(dark, pair):
    network, asked = dark.backdoored.copy().network.eval(), []

    def answer(images):
        asked.append(len(images))
        with torch.no_grad():
            return network(torch.as_tensor(images)).softmax(1)

    model = BlackBox(answer, dark.backdoored.input_shape)
    guard = SequentialStrip(**HOW).calibrate(model, dark.data, run=Run(seed=1))
    assert guard.threshold == pytest.approx(pair[1].threshold, rel=1e-3)
    del asked[:]
    found = guard.decided(dark.test.images[:40])
    assert sum(asked) == int(found.copies.sum()) < 40 * 25


def test_a_share_of_the_clean_inputs_is_rejected_early_and_no_more(dark, pair):
    plain, guard = pair
    _, rest = dark.data.split(100, Run(seed=1).generator("strip", "overlays"))
    more = guard.suspicious(guard.clean_scores) & ~plain.suspicious(plain.clean_scores)
    assert int(more.sum()) <= max(1, int(0.25 * 0.02 * (len(rest) + 1)))
    hasty = SequentialStrip(**HOW, early_rejects=0.99).calibrate(dark.backdoored, dark.data, run=Run(seed=1))
    assert hasty.plan.deficit <= guard.plan.deficit


def test_a_saved_guard_answers_as_before_and_a_damaged_plan_is_refused(dark, pair, tmp_path):
    folder = save_guard(pair[1], tmp_path / "guard")
    again = load_guard(folder, dark.backdoored)
    assert again.plan == pair[1].plan
    assert torch.equal(again.score(dark.test.images[:20]), pair[1].score(dark.test.images[:20]))
    record = json.loads((folder / "guard.json").read_text())
    plan = record["values"]["plan"]
    for wrong, text in (
        (None, "expected the values of a plan, got None"),
        (plan | {"spreads": [[1.0]]}, "expected 2 x 17 spreads above 0"),
        (plan | {"spreads": [[0.0] * 17] * 2}, "expected 2 x 17 spreads above 0"),
        (plan | {"deficit": -1}, "expected a deficit of 0 or more in the plan, got -1"),
    ):
        record["values"]["plan"] = wrong
        (folder / "guard.json").write_text(json.dumps(record))
        with pytest.raises(DataError, match=text):
            load_guard(folder, dark.backdoored)


@pytest.mark.parametrize("wrong", [{"early_passes": 0.0}, {"early_rejects": 1.0}])
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(OptionError, match=r"expected early_passes and early_rejects in \(0, 1\)"):
        SequentialStrip(**wrong)
    with pytest.raises(OptionError, match="expected copies of 1 or more"):
        SequentialStrip(copies=0)


class Overflowing(torch.nn.Module):
    """A bright corner makes an answer infinite once another image is added."""

    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Linear(3 * 8 * 8, 5)

    def forward(self, images):
        corner = images[:, 0, 0, :1]
        return self.body(images.flatten(1)) + torch.relu(corner - 0.99) * 3e38 * 1e3


def test_an_input_whose_copies_overflow_is_called_backdoored():
    images = torch.rand(200, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.4
    guard = SequentialStrip(copies=20, mode="add").calibrate(
        Classifier(Overflowing(), (3, 8, 8)), Dataset(images), run=Run()
    )
    images[:9, 0, 0, 0] = 0.98
    scores = guard.score(images)
    assert not scores[:9].isfinite().any()
    assert guard.suspicious(scores)[:9].all()
    assert scores[9:].isfinite().all()
