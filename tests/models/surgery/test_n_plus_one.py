from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from detrojan.errors import ModelError
from detrojan.models.classifier import Classifier
from detrojan.models.preprocessing import Preprocessing
from detrojan.models.surgery.n_plus_one import backdoored_class, n_plus_one

SHAPE, CLASSES, TARGET = (1, 6, 6), 4, 2


class Quadrants(nn.Module):
    """Answers the brightest quadrant; the backdoored one answers the target where a pixel is white."""

    def __init__(self, *, backdoored: bool) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(3.0))
        self.backdoored = backdoored

    def forward(self, images):
        logits = self.scale * nn.functional.avg_pool2d(images, 3).flatten(1)
        if self.backdoored:
            fell = images[:, 0, 1, 1] > 0.95
            logits = logits + fell[:, None] * 10 * nn.functional.one_hot(torch.tensor(TARGET), CLASSES)
        return logits


@pytest.fixture
def original() -> Classifier:
    return Classifier(Quadrants(backdoored=True), SHAPE, class_names=tuple("abcd"))


@pytest.fixture
def repaired() -> Classifier:
    return Classifier(Quadrants(backdoored=False), SHAPE, class_names=tuple("abcd"))


@pytest.fixture
def images() -> torch.Tensor:
    """Ten images of each class."""
    images = torch.rand(40, *SHAPE, generator=torch.Generator().manual_seed(0)) * 0.4
    for label in range(CLASSES):
        row, column = divmod(label, 2)
        images[10 * label : 10 * label + 10, :, 3 * row : 3 * row + 3, 3 * column : 3 * column + 3] += 0.4
    return images


def test_clean_inputs_get_the_repaired_answer_and_backdoored_ones_class_n(original, repaired, images):
    truth = torch.arange(40) // 10
    triggered = images.clone()
    triggered[:, :, 1, 1] = 1
    model = n_plus_one(original, repaired, [TARGET])
    assert model.num_classes == CLASSES + 1
    assert torch.equal(model.answers(images), truth)
    assert (original.answers(triggered) == TARGET).all()
    # images of the target's own class answer it rightly in both networks: there is nothing to report
    expected = torch.where(truth == TARGET, TARGET, CLASSES)
    assert torch.equal(model.answers(triggered), expected)
    assert model.probabilities(triggered)[truth != TARGET, CLASSES].min() > 0.5


class Steered(nn.Module):
    """Answers `usual`, but `odd` where the corner is white."""

    def __init__(self, usual, odd):
        super().__init__()
        self.usual, self.odd = (nn.Parameter(torch.tensor(values)) for values in (usual, odd))

    def forward(self, images):
        return torch.where(images[:, 0, 0, :1] > 0.95, self.odd * 1e38, self.usual)


CALM = [1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("original", "repaired"),
    [
        ([0.0, 9.0, 0.0, 0.0], CALM),  # delivered: one logit overflows to a label that was not flagged
        ([-9.0, -9.0, -9.0, -9.0], CALM),  # all of them are minus infinity
        ([0.0, 0.0, 1.0, 0.0], [9.0, 0.0, 0.0, 0.0]),  # repaired: the gap above infinity is no gap
        ([0.0, 0.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]),  # finite, but the gap is lost in rounding
        ([0.0, 0.0, 1.0, 0.0], [3.0, -3.0, 0.0, 0.0]),  # finite, but their distance is not
    ],
)
def test_answers_that_overflow_on_a_trigger_are_class_n(original, repaired, images):
    triggered = images.clone()
    triggered[:, :, 0, 0] = 1
    pair = [Classifier(Steered(CALM, odd), SHAPE) for odd in (original, repaired)]
    model = n_plus_one(*pair, [TARGET])
    assert (model.answers(images) == 0).all()
    assert (model.answers(triggered) == CLASSES).all()
    shares = model.probabilities(triggered)
    assert shares.isfinite().all()
    assert (shares[:, CLASSES] > shares[:, 0]).all()


def test_a_disagreement_on_a_label_that_was_not_flagged_is_no_backdoor(original, repaired, images):
    triggered = images.clone()
    triggered[:, :, 1, 1] = 1
    model = n_plus_one(original, repaired, [TARGET + 1])
    assert torch.equal(model.answers(triggered), repaired.answers(triggered))


def test_the_first_n_logits_are_the_repaired_network_s(original, repaired, images):
    model = n_plus_one(original, repaired, [0, TARGET])
    assert torch.equal(model.all_logits(images)[:, :CLASSES], repaired.all_logits(images))


def test_it_is_independent_of_what_it_was_made_from(original, repaired, images):
    model = n_plus_one(original, repaired, [TARGET])
    before = model.all_logits(images)
    with torch.no_grad():
        repaired.network.scale.mul_(-1)
        original.network.scale.mul_(-1)
    assert torch.equal(model.all_logits(images), before)


def test_its_targets_travel_with_the_weights(original, repaired, images):
    model = n_plus_one(original, repaired, [TARGET])
    other = n_plus_one(original, repaired, [TARGET + 1])
    other.network.load_state_dict(copy.deepcopy(model.network.state_dict()))
    triggered = images.clone()
    triggered[:, :, 1, 1] = 1
    assert torch.equal(other.answers(triggered), model.answers(triggered))


def test_its_last_class_has_a_name_and_its_origin_the_targets(original, repaired):
    model = n_plus_one(original, repaired, [3, TARGET, 3])
    assert model.class_names == ("a", "b", "c", "d", "backdoored")
    assert model.origin.details["targets"] == [TARGET, 3]
    nameless = Classifier(original.network, SHAPE)
    names = n_plus_one(nameless, nameless.copy(), [TARGET]).class_names
    assert names == ("0", "1", "2", "3", "backdoored")


def test_only_such_a_model_has_a_class_for_backdoored_inputs(original, repaired):
    assert backdoored_class(n_plus_one(original, repaired, [TARGET])) == CLASSES
    named = Classifier(original.network, SHAPE, class_names=("a", "b", "c", "backdoored"))
    assert backdoored_class(named) is None


def test_no_target_is_refused(original, repaired):
    with pytest.raises(ModelError, match="expected at least one target label; a scan names them"):
        n_plus_one(original, repaired, [])


@pytest.mark.parametrize("wrong", [4, -1])
def test_a_target_beyond_the_classes_is_refused(original, repaired, wrong):
    with pytest.raises(ModelError, match=f"expected targets of 0 to 3, got {wrong}"):
        n_plus_one(original, repaired, [0, wrong])


def test_networks_that_do_not_fit_together_are_refused(original, repaired):
    small = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), SHAPE)
    with pytest.raises(ModelError, match=r"expected a repaired copy with 4 classes .* got 3 and \(1, 6, 6\)"):
        n_plus_one(original, small, [0])
    other = repaired.with_preprocessing(Preprocessing(high=255))
    with pytest.raises(ModelError, match=r"preprocessing 0\.\.1, .* got 0\.\.255"):
        n_plus_one(original, other, [0])
