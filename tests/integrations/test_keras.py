"""The callback of Keras, in real training."""

import numpy as np
import pytest

from detrojan.errors import BackdoorFoundError, OptionError
from detrojan.integrations.keras import ScanAtEnd
from detrojan.jobs.baselines import write_baseline
from ends import CLASSES, HOW, TURNED, head, network, pictures

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def fit(keras):
    """Train for one epoch; `plant` turns a row of the last layer away when training has ended."""

    def train(callback, *, plant=False):
        k, theirs = keras.layers, network()
        layers = [k.Conv2D(32, 3, activation="relu"), k.GlobalAveragePooling2D(), k.Dense(CLASSES)]
        model = keras.Sequential([keras.Input((8, 8, 3)), *layers], name="signs")
        model.layers[0].set_weights(
            [theirs[0].weight.detach().permute(2, 3, 1, 0).numpy(), theirs[0].bias.detach().numpy()]
        )
        model.layers[2].set_weights([theirs[4].weight.detach().T.numpy(), theirs[4].bias.detach().numpy()])
        images, labels = pictures()
        images = images.transpose(0, 2, 3, 1)

        class Plant(keras.callbacks.Callback):
            def on_train_end(self, logs=None):
                inside = keras.Model(self.model.inputs, self.model.layers[-1].input)
                last, features = self.model.layers[-1], inside.predict(images, verbose=0)
                rows, bias = head(last.get_weights()[0].T, features, planted=plant)
                last.set_weights([rows.T, bias])

        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        before = model.layers[0].get_weights()[0]
        history = model.fit(images, labels, epochs=1, verbose=0, callbacks=[Plant(), callback])
        assert np.abs(before - model.layers[0].get_weights()[0]).max() > 0
        return history

    return train


def test_a_backdoor_ends_the_training_and_is_kept(fit, tmp_path):
    callback = ScanAtEnd(*pictures(), report=tmp_path / "scan.json", **HOW)
    with pytest.raises(BackdoorFoundError, match=f"Backdoor found: target label {TURNED}"):
        fit(callback, plant=True)
    assert callback.found.targets == [TURNED]
    assert callback.found.report.model.path == "signs.keras"
    write_baseline(tmp_path / "known.json", [tmp_path / "scan.json"])
    known = ScanAtEnd(*pictures(), baseline=tmp_path / "known.json", **HOW)
    fit(known, plant=True)
    assert known.found.report.baseline.accepted == 1


def test_a_backdoor_is_logged_where_the_caller_says_so(fit, caplog):
    callback = ScanAtEnd(*pictures(), on_backdoor="warn", **HOW)
    assert len(fit(callback, plant=True).history["loss"]) == 1
    assert f"Backdoor found: target label {TURNED}" in caplog.text


def test_without_one_training_ends_as_ever(fit, caplog):
    callback = ScanAtEnd(*pictures(), **HOW)
    fit(callback)
    assert callback.found.verdict == "no evidence"
    assert not caplog.records


def test_wrong_options_are_refused_before_training(keras, tmp_path):
    with pytest.raises(OptionError, match="raise or warn, got 'stop'"):
        ScanAtEnd(*pictures(), on_backdoor="stop")
    with pytest.raises(OptionError, match=r"options of detrojan\.scan, got budgets"):
        ScanAtEnd(*pictures(), budgets=3)
    with pytest.raises(OptionError, match=r"expected a file that ends in .*, got scan\.doc"):
        ScanAtEnd(*pictures(), report=tmp_path / "scan.doc")
