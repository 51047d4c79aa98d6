"""Where long work keeps its state, so that it goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from detrojan.errors import InputError
from detrojan.files import replacing
from detrojan.tensor_files import read_tensors

logger = logging.getLogger(__name__)

#: folders that could not be written to, of which a warning was given
_REFUSED = set[Path]()

Tensors = dict[str, torch.Tensor]


class Store:
    """Keeps one state (tensors and plain values) in one file, replaced atomically.

    The file's name holds a digest of the fingerprint, so that a state is only ever found again by
    the same work on the same inputs. Nothing is pickled.

    Args:
        folder: where the file lies; None keeps nothing.
        name: a short name of the work, part of the file's name.
        fingerprint: plain JSON values that the result depends on.

    """

    def __init__(self, folder: Path | None, name: str, fingerprint: dict[str, Any]) -> None:
        text = json.dumps(fingerprint, sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.path = None if folder is None else folder / f"{name}-{digest}.safetensors"

    def save(self, tensors: Tensors, values: dict[str, Any]) -> None:
        """Write the state; a crash in the middle leaves the previous one in place.

        Where the disk is full, or refuses it, the work goes on all the same, and a warning says so once.
        """
        if self.path is None:
            return
        contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.path) as scratch:
                save_file(contiguous, scratch, metadata={"values": json.dumps(values)})
        except (OSError, SafetensorError) as error:
            if self.path.parent not in _REFUSED:
                logger.warning("no state is kept, since %s cannot be written to: %s", self.path.parent, error)
            _REFUSED.add(self.path.parent)

    def load(self) -> tuple[Tensors, dict[str, Any]] | None:
        """Return the last state written, or None where there is none that can be read."""
        if self.path is None or not self.path.exists():
            return None
        try:
            tensors, metadata = read_tensors(self.path)
            values = dict(json.loads(metadata["values"]))
        except (InputError, KeyError, ValueError, TypeError, RecursionError, OSError) as error:
            logger.warning("the checkpoint %s cannot be read and is not used: %s", self.path, error)
            return None
        return tensors, values

    def clear(self) -> None:
        """Remove the state: the work is done."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def tensor_digest(tensor: torch.Tensor) -> str:
    """Return a digest of a tensor's values and shape."""
    total = hashlib.sha256(repr(tuple(tensor.shape)).encode())
    total.update(tensor.detach().cpu().contiguous().numpy().data)
    return total.hexdigest()


def digest(network: nn.Module) -> str:
    """Return a digest of all weights and buffers, and of how the network's answers are read."""
    total = hashlib.sha256(str(getattr(network, "reading", "")).encode())
    for name, tensor in network.state_dict().items():
        total.update(name.encode() + tensor_digest(tensor).encode())
    return total.hexdigest()
