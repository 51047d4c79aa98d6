"""What the guard says of images, as outputs of the protocol."""

from __future__ import annotations

import numpy as np

from detrojan.serve.judged import Judged
from detrojan.serve.tensors import Tensor

#: what the names of these outputs begin with where another server has the others
OWN = "guard_"
_TYPES = (("score", "FP64"), ("verdict", "BYTES"), ("reason", "BYTES"))


def verdict_types(begin: str) -> list[tuple[str, str]]:
    """Return name and datatype of each output, the names beginning with `begin`."""
    return [(begin + name, datatype) for name, datatype in _TYPES]


def verdicts(judged: Judged, begin: str) -> list[Tensor]:
    """Return the outputs, their names beginning with `begin`."""
    values = (
        judged.scores.double().numpy(),
        np.asarray(judged.verdicts, object),
        np.asarray(judged.reasons, object),
    )
    return [
        Tensor(name=name, datatype=datatype, values=found)
        for (name, datatype), found in zip(verdict_types(begin), values, strict=True)
    ]
