"""Compares the logits of the networks of keras.applications, read by detrojan, with those of Keras itself.

    python benchmark/keras_applications.py [NAME ...]

Needs Keras (in the extra "dev") and about a minute. The weights are random, so nothing is downloaded. A row
holds the network, its file's kind, parameters, the largest difference between the logits of both, the largest
logit, and the same difference after changed weights were written back and read by Keras. Ends with 1 where a
difference is above 1e-4 of the largest logit.
"""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detrojan.models.loading import load_model
from detrojan.models.writing import save_model

#: the network, its settings; the small variants have every kind of layer that the large ones have
NETWORKS: dict[str, dict[str, Any]] = {
    "MobileNet": {"alpha": 0.25},
    "MobileNetV2": {"alpha": 0.35},
    "MobileNetV3Small": {},
    "MobileNetV3Large": {},
    "ResNet50": {},
    "ResNet50V2": {},
    "EfficientNetB0": {},
    "EfficientNetV2B0": {},
    "DenseNet121": {},
    "Xception": {},
    "VGG16": {},
    "InceptionV3": {},
    "InceptionResNetV2": {},
    "ConvNeXtTiny": {},
}
SIDE, CLASSES, NEAR = 96, 5, 1e-4


def _disturb(model: Any) -> None:
    """Move all weights away from where layers begin, batch statistics among them."""
    numbers = np.random.default_rng(0)
    for weight in model.weights:
        value = np.asarray(weight.numpy())
        if value.dtype.kind == "f":
            shift = numbers.uniform(-0.05, 0.05, value.shape) * (value.ndim == 1)
            weight.assign(value * numbers.uniform(0.9, 1.1, value.shape) + shift)


def compare(keras: Any, name: str, suffix: str, folder: Path) -> tuple[int, float, float, float]:
    """Return the parameters, the largest difference, the largest logit, and the difference after writing."""
    keras.backend.clear_session()
    settings = {"weights": None, "classes": CLASSES, "classifier_activation": None, **NETWORKS[name]}
    side = 75 if name == "InceptionV3" else SIDE
    theirs = getattr(keras.applications, name)(input_shape=(side, side, 3), **settings)
    _disturb(theirs)
    path, again = folder / f"network{suffix}", folder / f"again{suffix}"
    theirs.save(path)
    ours = load_model(path)
    images = torch.rand(3, *ours.input_shape, generator=torch.Generator().manual_seed(0))
    seen = ours.prepare(images).permute(0, 2, 3, 1).numpy()
    wanted, got = theirs.predict(seen, verbose=0), ours.all_logits(images).numpy()
    with torch.no_grad():
        for parameter in ours.network.parameters():
            if parameter.requires_grad:
                parameter.mul_(1.01)
    changed = ours.all_logits(images).numpy()
    save_model(ours, again)
    theirs.load_weights(again)  # Keras cannot read the structure of some of its own HDF5 files
    written = theirs.predict(seen, verbose=0)
    count, most = theirs.count_params(), float(np.abs(wanted).max())
    return count, float(np.abs(got - wanted).max()), most, float(np.abs(written - changed).max())


def main() -> int:
    """Print one row per network and kind of file."""
    os.environ["KERAS_BACKEND"] = "torch"
    warnings.simplefilter("ignore")
    import keras  # noqa: PLC0415 - after its backend is chosen

    failed = False
    print("| network | file | parameters | difference | largest logit | difference after writing |")
    print("|---|---|---|---|---|---|")
    for name in sys.argv[1:] or NETWORKS:
        for suffix in (".keras", ".h5"):
            with tempfile.TemporaryDirectory() as folder:
                count, apart, most, after = compare(keras, name, suffix, Path(folder))
            failed |= max(apart, after) > NEAR * max(most, 1)
            print(f"| {name} | {suffix} | {count} | {apart:.1e} | {most:.2f} | {after:.1e} |", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
