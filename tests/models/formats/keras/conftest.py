"""Compares networks with real Keras."""

import warnings

import numpy as np
import pytest
import torch

from detrojan.models.loading import load_model
from detrojan.models.writing import save_model


def disturb(model, seed=0):
    """Move all weights away from where layers begin, and variances above 0."""
    numbers = np.random.default_rng(seed)
    for weight in model.weights:
        value = np.asarray(weight.numpy())
        if value.dtype.kind == "f":
            weight.assign(value + numbers.uniform(0.02, 0.2, value.shape))
    return model


def write(model, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(path)
    return path


@pytest.fixture
def as_keras(tmp_path, images):
    """Return a function that reads a Keras model with ours, compares the logits, and returns ours.

    With `written` it also writes changed weights back and compares again with what Keras makes of the file.
    """

    def compare(model, suffix=".keras", *, last=True, written=False, near=1e-4, **options):
        ours = load_model(write(disturb(model), tmp_path / f"m{suffix}"), **options)
        batch = images(4, *ours.input_shape)

        def theirs():
            seen = ours.prepare(batch)
            seen = seen.permute(0, 2, 3, 1) if last else seen
            if len(model.inputs[0].shape) == 3:
                seen = seen[..., 0]
            return np.asarray(model.predict(seen.numpy(), verbose=0))

        np.testing.assert_allclose(ours.all_logits(batch).numpy(), theirs(), atol=near, rtol=near)
        if written:
            before = theirs()
            with torch.no_grad():
                for parameter in ours.network.parameters():
                    if parameter.requires_grad:
                        parameter.mul_(1.1)
            save_model(ours, tmp_path / f"new{suffix}")
            model.load_weights(tmp_path / f"new{suffix}")
            assert np.abs(theirs() - before).max() > 1e-3
            np.testing.assert_allclose(ours.all_logits(batch).numpy(), theirs(), atol=near, rtol=near)
        return ours

    return compare
