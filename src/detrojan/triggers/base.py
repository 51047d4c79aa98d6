"""The shared noun: a trigger changes images, and can be drawn, saved and loaded without pickle."""

from __future__ import annotations

import importlib
import json
import pkgutil
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import torch
from safetensors.torch import save_file

from detrojan.errors import DataError, ModelError
from detrojan.files import replacing
from detrojan.tensor_files import read_tensors


class Trigger(ABC):
    """Changes images so that a backdoored network answers its target.

    A subclass sets `kind`, keeps its state in tensors and plain values, and registers itself by
    being defined.
    """

    kind: ClassVar[str] = ""
    _kinds: ClassVar[dict[str, type[Trigger]]] = {}

    def __init_subclass__(cls) -> None:
        """Register the subclass under its own kind, so that files can name it; not under an inherited one."""
        super().__init_subclass__()
        if cls.__dict__.get("kind"):
            Trigger._kinds[cls.kind] = cls

    @abstractmethod
    def stamp(self, images: torch.Tensor) -> torch.Tensor:
        """Return stamped copies of `images` (N, C, H, W) in [0, 1]; the input is unchanged."""

    @abstractmethod
    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return the tensors and plain values that make up this trigger."""

    @classmethod
    @abstractmethod
    def from_state(cls, tensors: dict[str, torch.Tensor], values: dict[str, Any]) -> Trigger:
        """Rebuild a trigger from its `state`."""

    @abstractmethod
    def picture(self) -> torch.Tensor:
        """Return the trigger by itself, as an image (C, H, W) in [0, 1]."""

    def save(self, path: str | Path) -> None:
        """Write the trigger to a `.safetensors` file."""
        tensors, values = self.state()
        contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
        with replacing(path) as scratch:
            save_file(contiguous, scratch, metadata={"kind": self.kind, "values": json.dumps(values)})

    @staticmethod
    def load(path: str | Path) -> Trigger:
        """Read a trigger from a `.safetensors` file.

        Raises:
            DataError: the file is not a trigger's, or of an unknown kind.

        """
        try:
            tensors, meta = read_tensors(path)
            values = json.loads(meta.get("values", "{}"), parse_constant=_refuse_constant)
        except (ModelError, ValueError, RecursionError) as error:
            raise DataError(f"{path} is not a trigger file: {error}") from error
        if not isinstance(values, dict):
            raise DataError(f"{path} is not a trigger file: expected its values, got {values!r:.60}")
        odd = next((name for name, one in tensors.items() if not _is_real(one)), None)
        if odd is not None:
            raise DataError(f"{path}: expected real numbers in {odd!r:.60}, got {tensors[odd].dtype}")
        _import_kinds()
        kind = Trigger._kinds.get(meta.get("kind", ""))
        if kind is None:
            known = ", ".join(sorted(Trigger._kinds))
            raise DataError(f"{path}: expected a trigger of kind {known}, got {meta.get('kind')!r}")
        try:
            trigger = kind.from_state(tensors, values)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
        except (RuntimeError, TypeError, ValueError, KeyError, IndexError, OverflowError) as error:
            raise DataError(f"{path} is not a trigger file: {type(error).__name__}: {error}") from error
        if not all(bool(tensor.isfinite().all()) for tensor in trigger.state()[0].values()):
            raise DataError(f"{path}: expected finite numbers in a trigger, got NaN or infinity")
        return trigger


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"it holds {constant}, which is not JSON")


def _is_real(tensor: torch.Tensor) -> bool:
    floats = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
    return tensor.dtype in floats | {
        torch.bool,
        torch.uint8,
        torch.int8,
        torch.int16,
        torch.int32,
        torch.int64,
    }


def _import_kinds() -> None:
    """Import every module of this package: a kind is known once its module has been imported."""
    package = importlib.import_module("detrojan.triggers")
    for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(info.name)


def check_fit(images: torch.Tensor, shape: tuple[int, ...]) -> None:
    """Refuse images (N, C, H, W) that a trigger of `shape` (C, H, W) cannot be stamped on.

    Raises:
        DataError: their shape is another.

    """
    if tuple(images.shape[1:]) != tuple(shape):
        raise DataError(
            f"expected images of shape {tuple(shape)} as the trigger's, got {tuple(images.shape[1:])}"
        )


def checked_values(name: str, values: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Return one image's worth of a trigger's values, (C, H, W), as float32 on the CPU.

    Raises:
        DataError: another shape, or values that are not within `low` to `high`.

    """
    values = values.detach().float().cpu()
    if values.ndim != 3 or values.numel() == 0:
        raise DataError(f"expected a {name} (C, H, W), got shape {tuple(values.shape)}")
    if not (values.min() >= low and values.max() <= high):
        raise DataError(
            f"expected a {name} in [{low:g}, {high:g}], got {values.min():.3g} to {values.max():.3g}"
        )
    return values


def stated_tensor(tensors: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    """Return a tensor out of a trigger's file.

    Raises:
        DataError: the file holds none of that name.

    """
    if name not in tensors:
        raise DataError(f"expected a tensor {name}, got {', '.join(sorted(tensors)) or 'none'}")
    return tensors[name]


def stated_number(values: dict[str, Any], name: str) -> float:
    """Return a number out of a trigger's file; all that triggers need lie far below a thousand million.

    Raises:
        DataError: the file holds no finite number of that name.

    """
    value = values.get(name) if isinstance(values, dict) else None
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < 1e9:
        raise DataError(f"expected a number {name}, got {value!r}")
    return value
