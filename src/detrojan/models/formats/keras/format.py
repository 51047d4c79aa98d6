"""What Keras's files are, and by which names plain Keras takes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from detrojan.errors import ModelError, WeightsError
from detrojan.models.classifier import Classifier
from detrojan.models.formats.base import Content, Format
from detrojan.models.formats.keras.files import read_keras_h5, read_keras_zip
from detrojan.models.formats.keras.graph import bare_graph
from detrojan.models.formats.keras.network import KerasGraph
from detrojan.models.formats.keras.write import write_keras
from detrojan.models.nets import use_keras_epsilon
from detrojan.models.weights import Architecture, Loaded, check_finite, fit

#: the endings by which plain Keras knows each kind of file
_SUFFIXES = {
    "keras": (".keras",),
    "h5": (".h5", ".hdf5"),
    "weights": (".h5", ".hdf5"),
    "weights.h5": (".weights.h5",),
}


class KerasFile(Format):
    """A Keras archive, or a Keras HDF5 file with a whole model or with weights only."""

    name = "keras"
    kind = "a Keras file (.keras, .h5)"
    listed = (
        (".keras", "Keras 3 archive; layers that hold code are refused"),
        (".h5", "Keras HDF5: a full model, or weights only (--net, else guessed as .pt)"),
    )
    suffixes = tuple(dict.fromkeys(ending for kind in _SUFFIXES.values() for ending in kind))
    channels_first = True
    copies = True
    precedence = 20

    def recognises(self, content: Content) -> bool:
        """Tell whether a file begins as HDF5 does, or is a zip with Keras's two members."""
        hdf5 = content.head.startswith(b"\x89HDF\r\n\x1a\n")
        return hdf5 or {"config.json", "model.weights.h5"} <= content.names

    def read(self, path: Path, asked: Architecture, *, allow_unsafe: bool) -> Loaded:
        """Read a file of either kind."""
        return read_keras_zip(path, asked) if Content(path).is_zip else read_keras_h5(path, asked)

    def endings(self, model: Classifier) -> tuple[str, ...]:
        """Return the endings of the kind of file that the model came in."""
        return _SUFFIXES[model.origin.details["kind"]]

    def can_write(self, model: Classifier, path: Path) -> bool:
        """Tell whether plain Keras would take the path for that kind of file.

        By the name .weights.h5 Keras 3 expects its own layout; the owner of another file that is
        called so knows better.
        """
        misleading = self.hint(model) and path.name.lower().endswith(".weights.h5")
        called_so = model.origin.path.lower().endswith(".weights.h5")
        return super().can_write(model, path) and (not misleading or called_so)

    def hint(self, model: Classifier) -> str:
        """Return what may not be meant by .h5."""
        misled = ".h5" in self.endings(model)
        return " (not .weights.h5, by which Keras expects another layout)" if misled else ""

    def write(self, model: Classifier, path: Path) -> None:
        """Copy the file that the model came in, with its weights."""
        write_keras(model, Path(model.origin.path), path)

    def describe(self, model: Classifier) -> dict[str, Any]:
        """Return Keras's description of a network without a name; for others that they have Keras's epsilon.

        No tensor shows the epsilon of batch norms.
        """
        named = bool(model.origin.net)
        return {"keras": None if named else model.origin.details.get("config"), "keras_epsilon": named}

    def described(
        self, tensors: Mapping[str, torch.Tensor], said: Mapping[str, Any], asked: Architecture, where: str
    ) -> Loaded | None:
        """Build a network from Keras's description, or give a named one Keras's epsilon."""
        config = said.get("keras")
        if config is not None and not isinstance(config, dict):
            raise ModelError(f"{where}: expected Keras's description of a network, got {config!r:.60}")
        if config is not None and asked.net is None and asked.factory is None:
            network = _from_description(tensors, config, asked, where)
            assert asked.input_shape is not None
            details = {"config": config}
            return Loaded(network=network, input_shape=asked.input_shape, format=self.name, details=details)
        if said.get("keras_epsilon") is not True:
            return None
        fitted = fit(tensors, asked, where)
        if asked.factory is None:
            use_keras_epsilon(fitted.network)
        return Loaded.of(fitted, self.name, {})


def _from_description(
    tensors: Mapping[str, torch.Tensor], config: dict[str, Any], asked: Architecture, where: str
) -> KerasGraph:
    """Build a network from a Keras description; memory is taken only for tensors that the file has."""
    check_finite(tensors, where)
    graph = bare_graph(config, asked.input_shape, where)
    wanted = {key: tuple(value.shape) for key, value in graph.state_dict().items()}
    got = {key: tuple(value.shape) for key, value in tensors.items()}
    if wanted != got:
        wrong = sorted(key for key in wanted.keys() | got.keys() if wanted.get(key) != got.get(key))
        raise WeightsError(
            f"{where}: the weights do not fit its Keras description: expected {wrong[0]} "
            f"{wanted.get(wrong[0], 'not to be there')}, got {got.get(wrong[0], 'none')}"
        )
    graph.to_empty(device="cpu")
    graph.load_state_dict(dict(tensors))
    return graph
