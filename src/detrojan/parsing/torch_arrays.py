"""Data in files of `torch.save`: named tensors, lists of numbers and of texts, read without unpickling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detrojan.errors import DataError, UnsafeFileError
from detrojan.parsing.pickles import Odd
from detrojan.parsing.torch_file import Chosen, check_dense, follow
from detrojan.parsing.torch_pickle import Name, Tensor, TorchMachine

_PAIR = "torch.utils.data.dataset.TensorDataset"
_WAY_OUT = 'torch.save({"images": images, "labels": labels}, FILE) writes what is read'


class _Machine(TorchMachine):
    """Knows PyTorch's data set of tensors besides."""

    def refuse(self, what: str) -> UnsafeFileError:
        """Return the error for what is not followed."""
        return UnsafeFileError(
            f"{self.where}: expected a file of plain tensors, got a pickle that would run code when read "
            f"({what}); nothing was run; {_WAY_OUT}"
        )

    def named(self, module: str, name: str) -> Any:
        """Return a name that such files need; no other."""
        text = f"{module}.{name}"
        return Name(text) if text == _PAIR else super().named(module, name)

    def built(self, target: Any, state: Any) -> Any:
        """Return the tensors of a data set; of anything else attributes are left out."""
        if isinstance(target, Odd) and target.what == _PAIR.rpartition(".")[2] and isinstance(state, dict):
            return state.get("tensors", target)
        return super().built(target, state)


def parse_torch_arrays(path: Path) -> dict[str, Any]:
    """Return the tensors and lists of a file that torch.save wrote.

    A dict gives its names; one within it is put before them, as in "train/images". A tensor alone is called
    images, and the first two of a tuple or list images and labels.

    Args:
        path: the file.

    Returns:
        `tensors` and `storages` as `parse_torch` returns them. `lists`: lists of numbers or texts, by name.

    Raises:
        UnsafeFileError: reading it would run code from the file.
        ModelError: it is damaged, or a tensor is not dense.
        DataError: something else than a dict, a tuple, a list or a tensor.

    """
    return follow(path, _Machine(str(path)), lambda content: _arrays(content, path))


def _arrays(content: Any, path: Path) -> Chosen:
    if isinstance(content, Tensor):
        content = (content,)
    if isinstance(content, tuple | list):
        if not content or not isinstance(content[0], Tensor):
            raise DataError(
                f"{path}: expected a dict or a pair of tensors (images, labels), got a "
                f"{type(content).__name__} of something else; {_WAY_OUT}"
            )
        content = dict(zip(("images", "labels"), content, strict=False))
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a dict or a pair of tensors (images, labels); {_WAY_OUT}")
    named = dict(_named(content))
    tensors = {name: value for name, value in named.items() if isinstance(value, Tensor)}
    check_dense(tensors, path)
    lists = {name: value for name, value in named.items() if isinstance(value, list) and _is_plain(value)}
    return tensors, {"lists": lists}


def _named(content: dict[Any, Any]) -> list[tuple[str, Any]]:
    found = []
    for key, value in content.items():
        if isinstance(key, str) and isinstance(value, dict):
            found += [(f"{key}/{name}", inner) for name, inner in value.items() if isinstance(name, str)]
        elif isinstance(key, str):
            found.append((key, value))
    return found


def _is_plain(values: list[Any]) -> bool:
    return bool(values) and any(all(type(one) is kind for one in values) for kind in (int, str))
