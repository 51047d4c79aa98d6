"""A Keras network of today's layers is trained, scanned, repaired, guarded and written back."""

import numpy as np
import pytest
import torch

from blobs import KINDS, SIDE, blobs
from detrojan.guards.strip import Strip
from detrojan.learning.fitting import Fitting, fit
from detrojan.models.loading import load_model
from detrojan.models.writing import save_model
from detrojan.repairs.fine_pruning import FinePruning
from detrojan.repairs.finetune import FineTune
from detrojan.run import Run
from detrojan.scans.latent_margin import LatentMargin
from detrojan.scans.neural_cleanse import NeuralCleanse

pytestmark = pytest.mark.filterwarnings("ignore")
HOW = Fitting(epochs=6, batch_size=32, optimizer="adam", learning_rate=5e-3, weight_decay=0)


def _saved(keras, path):
    k = keras.layers
    layers = [k.Rescaling(1 / 127.5, -1), k.RandomFlip(), k.Conv2D(8, 3, 2, "same"), k.BatchNormalization()]
    layers += [
        k.Activation("swish"),
        k.DepthwiseConv2D(3, padding="same"),
        k.BatchNormalization(),
        k.ReLU(6.0),
    ]
    layers += [k.Conv2D(16, 1), k.LayerNormalization(), k.Flatten(), k.Dense(KINDS, activation="softmax")]
    model = keras.Sequential([keras.Input((SIDE, SIDE, 1)), *layers])
    model.save(path)
    return model


def test_train_scan_repair_guard_and_write(keras, tmp_path):
    keras.utils.set_random_seed(3)  # its layers draw from one stream for all tests
    theirs, run, data = _saved(keras, tmp_path / "m.keras"), Run(seed=3), blobs(400, 5)
    model = load_model(tmp_path / "m.keras")
    assert model.preprocessing.high == 255
    fit(model, blobs(1200, 1), HOW, run=run)
    right = float((model.answers(data.images) == data.labels).double().mean())
    assert right > 0.9

    scan = NeuralCleanse(steps=8, mini_batches=1, samples=64)
    found = scan.scan(model, data, run=run, labels=range(2))
    assert [finding.label for finding in found.findings] == [0, 1]
    assert len(LatentMargin().scan(model, data, run=run).findings) == KINDS

    for repair in (FineTune(epochs=1), FinePruning(epochs=1)):
        mended = repair.repair(model, data, [], run=run).model
        assert float((mended.answers(data.images) == data.labels).double().mean()) > 0.8
        written = save_model(mended, tmp_path / f"{type(repair).__name__}.keras")
        theirs.load_weights(written)
        seen = (data.images[:50] * 255).permute(0, 2, 3, 1).numpy()
        got = mended.probabilities(data.images[:50]).numpy()
        np.testing.assert_allclose(got, theirs.predict(seen, verbose=0), atol=1e-4)

    guard = Strip(copies=8).calibrate(model, data, run=run)
    assert torch.isfinite(guard.score(data.images[:20])).all()
