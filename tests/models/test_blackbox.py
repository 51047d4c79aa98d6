from __future__ import annotations

import numpy as np
import pytest
import torch

from detrojan.errors import AnswersOnlyError, ModelError, OptionError
from detrojan.models.blackbox import BlackBox
from detrojan.models.preprocessing import Preprocessing

WEIGHTS = torch.randn(48, 5, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def images():
    return torch.rand(9, 3, 4, 4, generator=torch.Generator().manual_seed(1))


def scores(given):
    return given.reshape(len(given), -1) @ WEIGHTS.numpy()


def of_tensors(given):
    return (torch.flatten(given, 1) @ WEIGHTS).softmax(1)


def test_a_function_of_arrays_or_of_tensors_is_a_classifier(images):
    logits = images.flatten(1) @ WEIGHTS
    plain, squashed = BlackBox(scores, (3, 4, 4)), BlackBox(of_tensors, (3, 4, 4))
    assert torch.allclose(plain.all_logits(images), logits, atol=1e-5)
    assert torch.allclose(squashed.probabilities(images), logits.softmax(1), atol=1e-5)
    assert torch.equal(squashed.answers(images), logits.argmax(1))
    assert "softmax" in squashed.origin.notes[0]
    assert repr(plain).startswith("BlackBox(scores, 3 x 4 x 4 to 5 classes, ")


def test_it_is_asked_about_no_more_at_once_than_it_takes_and_counts(images):
    sizes = []

    def counting(given):
        sizes.append(len(given))
        return scores(given)

    model = BlackBox(counting, (3, 4, 4), batch=4)
    before = model.queries
    model.all_logits(images)
    assert sizes[-3:] == [4, 4, 1]
    assert model.queries - before == 9


def test_preprocessing_is_done_before_it_is_asked(images):
    model = BlackBox(scores, (3, 4, 4), preprocessing=Preprocessing(high=255.0))
    assert torch.allclose(model.all_logits(images), 255 * images.flatten(1) @ WEIGHTS, rtol=1e-4)
    other = model.with_preprocessing(Preprocessing())
    assert torch.allclose(other.all_logits(images), images.flatten(1) @ WEIGHTS, atol=1e-5)


@pytest.mark.parametrize(
    "use",
    [
        lambda model, _: model.network,
        lambda model, _: model.layers,
        lambda model, _: model.head_weights(),
        lambda model, images: model.activations(images),
        lambda model, images: model.logits(images.clone().requires_grad_()),
    ],
    ids=["weights", "layers", "head", "activations", "gradients"],
)
def test_what_needs_more_than_answers_says_what_works_instead(images, use):
    with pytest.raises(
        AnswersOnlyError, match=r"scores: expected a network .* only answers; scan --method peaks"
    ):
        use(BlackBox(scores, (3, 4, 4)), images)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda given: scores(given)[:1], r"expected scores for 2 images, one row each, got shape \(1, 5\)"),
        (lambda given: np.full((len(given), 5), np.inf), r"expected finite scores, got"),
        (lambda _: "stop", r"expected scores \(N, classes\), got <U4"),
        (lambda _: None, r"expected scores \(N, classes\), got object"),
        (lambda given: 1 / 0, r"ZeroDivisionError.*with a tensor instead of an array: ZeroDivisionError"),
    ],
)
def test_what_answers_no_scores_is_refused(ask, said):
    with pytest.raises(ModelError, match=said):
        BlackBox(ask, (3, 4, 4))


def test_of_several_outputs_one_is_named():
    def several(given):
        return {"logits": scores(given), "features": np.zeros((len(given), 7))}

    assert BlackBox(several, (3, 4, 4)).num_classes == 5
    assert BlackBox(several, (3, 4, 4), output="features").num_classes == 7
    with pytest.raises(OptionError, match="expected an output out of"):
        BlackBox(several, (3, 4, 4), output="other")
