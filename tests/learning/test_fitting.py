from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import nn

from detrojan.data.dataset import Dataset
from detrojan.data.drawn.signs import draw_signs
from detrojan.errors import DataError, InterruptedRunError, LabelError, OptionError
from detrojan.learning.augmentation import shift
from detrojan.learning.fitting import Fitting, fit
from detrojan.metrics.accuracy import clean_accuracy
from detrojan.models.classifier import Classifier
from detrojan.repairs.tuning import soft_cross_entropy
from detrojan.run import Run
from detrojan.store import digest
from margins import shifted

SHAPE = (3, 16, 16)
ADAM = Fitting(epochs=3, batch_size=32, optimizer="adam", learning_rate=2e-3, weight_decay=0)
SGD = Fitting(epochs=3, batch_size=32, learning_rate=0.02)


@pytest.fixture(scope="module")
def signs() -> Dataset:
    """Six classes of small signs."""
    data = draw_signs(900, seed=shifted(5), size=16)
    return data.select(data.labels < 6).with_labels(data.labels[data.labels < 6])


def network(classes: int = 6) -> nn.Sequential:
    """Two convolutions with batch norm and dropout: what makes repeating a training hard."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(shifted(1))
        return nn.Sequential(
            nn.Conv2d(3, 12, 3, stride=2),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.Conv2d(12, 24, 3, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(24 * 9, classes),
        )


def model(classes: int = 6) -> Classifier:
    return Classifier(network(classes), SHAPE)


class Stopping:
    """Stops the training at its n-th batch, as a kill would."""

    def __init__(self, after: int) -> None:
        self.left = after

    @contextmanager
    def task(self, title, total=None):
        yield self

    def advance(self, amount=1, *, note=None):
        self.left -= amount
        if self.left < 0:
            raise InterruptedRunError("stopped by the test")


@pytest.mark.effect
def test_one_epoch_on_a_few_signs_is_far_better_than_chance(signs):
    small = model()
    how = Fitting(epochs=1, batch_size=8, optimizer="adam", learning_rate=3e-3, weight_decay=0)
    (epoch,) = fit(small, signs, how, run=Run())
    assert clean_accuracy(small, signs) > 2 / 6
    assert epoch.number == 1
    assert epoch.accuracy > 1.5 / 6
    assert 0 < epoch.loss < 1.79  # log of 6: what guessing costs


@pytest.mark.parametrize("how", [ADAM, SGD], ids=["adam", "sgd"])
def test_the_same_seed_gives_the_same_weights_and_another_one_does_not(signs, how):
    def weights(seed: int, disturbance: int) -> str:
        trained = model()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(disturbance)
            fit(trained, signs, how, run=Run(seed=seed), augment=shift(1, flip=True))
        return digest(trained.network)

    assert weights(3, 1) == weights(3, 2)
    assert weights(3, 1) != weights(4, 1)


def test_the_random_state_that_everybody_shares_is_untouched(signs):
    before = torch.get_rng_state()
    fit(model(), signs, ADAM, run=Run(seed=9), augment=shift(1))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("how", [ADAM, SGD], ids=["adam", "sgd"])
@pytest.mark.parametrize("after", [0, 11, 20])
def test_an_interrupted_training_goes_on_to_the_same_weights(signs, how, after, tmp_path):
    whole = model()
    history = fit(whole, signs, how, run=Run(seed=3), augment=shift(1))
    with pytest.raises(InterruptedRunError):
        fit(
            model(),
            signs,
            how,
            run=Run(seed=3, checkpoint=tmp_path, progress=Stopping(after)),
            augment=shift(1),
            identity={"shift": 1},
        )
    done_before = after // (len(signs) // how.batch_size)
    seen = []
    resumed = model()
    again = fit(
        resumed,
        signs,
        how,
        run=Run(seed=3, checkpoint=tmp_path),
        augment=shift(1),
        after_epoch=lambda epoch: seen.append(epoch.number),
        identity={"shift": 1},
    )
    assert seen == list(range(done_before + 1, how.epochs + 1)), "epochs that were done were repeated"
    assert again == history
    assert digest(resumed.network) == digest(whole.network)


def test_a_finished_training_is_not_repeated_but_one_with_another_augmentation_is(signs, tmp_path):
    run = Run(checkpoint=tmp_path)
    epochs = []
    for pixels in (1, 1, 2):
        identity = {"shift": pixels}
        fit(
            model(), signs, ADAM, run=run, augment=shift(pixels), after_epoch=epochs.append, identity=identity
        )
    fit(model(), signs, ADAM, run=run, after_epoch=epochs.append, identity={})
    assert len(epochs) == 3 * ADAM.epochs


def test_a_training_that_is_kept_has_to_say_what_tells_it_apart(signs, tmp_path):
    with pytest.raises(OptionError, match="expected an identity of a training that is kept"):
        fit(model(), signs, ADAM, run=Run(checkpoint=tmp_path))


def test_no_training_goes_on_from_that_of_other_images_or_of_other_answers(signs, tmp_path):
    changed = signs.images.clone()
    changed[1, 0, 0, 0] = 1 - changed[1, 0, 0, 0]
    soft = torch.full((len(signs), 6), 1 / 6)
    other = soft.clone()
    other[1] = torch.eye(6)[0]
    epochs = []
    again = (changed.clone(), soft.clone())
    for images, answers in ((signs.images, soft), (changed, soft), (signs.images, other), again):
        data = Dataset(images, signs.labels)
        fit(
            model(),
            data,
            ADAM,
            run=Run(checkpoint=tmp_path),
            loss=soft_cross_entropy(answers),
            after_epoch=epochs.append,
            identity={"answers": answers},
        )
    assert len(epochs) == 3 * ADAM.epochs


def test_frozen_norms_keep_their_statistics_and_others_do_not(signs):
    statistics = {}
    for frozen in (True, False):
        trained = model()
        before = trained.network[1].running_mean.clone()
        how = Fitting(epochs=1, batch_size=32, learning_rate=0.02, frozen_norm=frozen)
        weight = trained.network[1].weight.detach().clone()
        fit(trained, signs, how, run=Run())
        assert not torch.equal(trained.network[1].weight, weight), "its scale is still trained"
        statistics[frozen] = torch.equal(trained.network[1].running_mean, before)
    assert statistics == {True: True, False: False}


def test_it_leaves_the_network_in_evaluation_mode_and_frozen_parameters_alone(signs):
    trained = model()
    trained.network[0].requires_grad_(requires_grad=False)
    before = trained.network[0].weight.clone()
    fit(trained, signs, SGD, run=Run())
    assert not any(module.training for module in trained.network.modules())
    assert torch.equal(trained.network[0].weight, before)
    assert not trained.network[0].weight.requires_grad


@pytest.mark.effect
def test_a_loss_of_ones_own_is_descended_on_and_sees_which_samples_it_gets(signs):
    seen = []

    def ascent(logits, labels, index):
        assert torch.equal(signs.labels[index], labels)
        seen.append(index)
        return -nn.functional.cross_entropy(logits, labels).clamp(max=5)

    trained = model()
    fit(trained, signs, replace(ADAM, epochs=8), run=Run(), loss=ascent)
    # 1.8 by guessing
    assert float(nn.functional.cross_entropy(trained.all_logits(signs.images), signs.labels)) > 2.5
    first = torch.cat(seen[: len(signs) // 32])
    assert len(first.unique()) == len(first), "an epoch meets no sample twice"


@pytest.mark.parametrize(
    ("decay", "rates"),
    [("cosine", [0.1, 0.05, 0.0]), ("steps", [0.1, 0.1, 0.001]), ("none", [0.1, 0.1, 0.1])],
)
def test_the_learning_rate_decays_as_stated(decay, rates):
    how = Fitting(learning_rate=0.1, decay=decay)
    assert [how.rate(share) for share in (0.0, 0.5, 1.0)] == pytest.approx(rates)
    assert Fitting(learning_rate=0.1, decay="steps").rate(0.7) == pytest.approx(0.01)


def test_labels_beyond_the_classes_and_missing_labels_are_refused(signs):
    with pytest.raises(LabelError, match="expected labels of 0 to 3, got up to 5"):
        fit(model(4), signs, ADAM, run=Run())
    with pytest.raises(LabelError, match="expected labelled data for training"):
        fit(model(), signs.with_labels(None), ADAM, run=Run())


def test_images_of_another_size_are_refused():
    with pytest.raises(DataError, match="expected colour images 16 high x 16 wide x 3"):
        fit(model(18), draw_signs(40, size=8), ADAM, run=Run())


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"epochs": 0}, "expected epochs of 1 or more"),
        ({"batch_size": 1}, "batch_size of 2 or more"),
        ({"learning_rate": 0.0}, "learning_rate above 0, got 10, 128 and 0"),
        ({"learning_rate": float("nan")}, "got 10, 128 and nan"),
        ({"momentum": 1.0}, r"expected momentum and label_smoothing in \[0, 1\)"),
        ({"label_smoothing": 1.0}, "got 0.9, 1 and 0.0005"),
        ({"weight_decay": -1.0}, "weight_decay of 0 or more, got 0.9, 0 and -1"),
        ({"optimizer": "lion"}, "expected the optimizer sgd or adam .* got 'lion' and 'cosine'"),
        ({"decay": "linear"}, "got 'sgd' and 'linear'"),
    ],
)
def test_values_out_of_range_are_refused(wrong, text):
    with pytest.raises(OptionError, match=text):
        Fitting(**wrong)


@pytest.mark.effect
def test_mixed_precision_learns_as_well_and_keeps_float32_weights(signs):
    exact, mixed = (Classifier(network(), SHAPE) for _ in range(2))
    fit(exact, signs, ADAM, run=Run(seed=3))
    fit(mixed, signs, ADAM, run=Run(seed=3, mixed_precision=True))
    assert {p.dtype for p in mixed.network.parameters()} == {torch.float32}
    assert digest(mixed.network) != digest(exact.network)
    assert clean_accuracy(mixed, signs) > clean_accuracy(exact, signs) - 0.05
