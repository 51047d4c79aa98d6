"""What a pickle of `torch.save` holds, found without PyTorch: dicts, and where each tensor's values lie."""

from __future__ import annotations

import math
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from dataclasses import dataclass
from typing import Any

from detrojan.errors import UnsafeFileError
from detrojan.parsing.pickles import Odd, PickleMachine

#: the type of a storage's values, and their size in bytes
STORAGES = {
    "DoubleStorage": ("float64", 8), "FloatStorage": ("float32", 4), "HalfStorage": ("float16", 2),
    "BFloat16Storage": ("bfloat16", 2), "LongStorage": ("int64", 8), "IntStorage": ("int32", 4),
    "ShortStorage": ("int16", 2), "CharStorage": ("int8", 1), "ByteStorage": ("uint8", 1),
    "BoolStorage": ("bool", 1), "ComplexFloatStorage": ("complex64", 8),
    "ComplexDoubleStorage": ("complex128", 16), "UntypedStorage": ("uint8", 1),
    "QInt8Storage": ("qint8", 1), "QUInt8Storage": ("quint8", 1), "QInt32Storage": ("qint32", 4),
    "QUInt4x2Storage": ("quint4x2", 1), "QUInt2x4Storage": ("quint2x4", 1),
}  # fmt: skip
#: types that are no storage's own, with their size in bytes
_OTHER_SIZES = {
    "uint16": 2, "uint32": 4, "uint64": 8, "complex32": 4, "float8_e5m2": 1, "float8_e4m3fn": 1,
    "float8_e5m2fnuz": 1, "float8_e4m3fnuz": 1, "float8_e8m0fnu": 1, "float4_e2m1fn_x2": 1,
    "bits8": 1, "bits16": 2, "bits1x8": 1, "bits2x4": 1, "bits4x2": 1,
    **{f"{kind}{bits}": 1 for kind in ("int", "uint") for bits in range(1, 8)},
}  # fmt: skip
SIZES = {**dict(STORAGES.values()), **_OTHER_SIZES}
_QUANTIZERS = {
    "per_tensor_affine", "per_tensor_symmetric", "per_channel_affine", "per_channel_symmetric",
    "per_channel_affine_float_qparams",
}  # fmt: skip
_DENSE = {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3"}
_PARAMETERS = {"_rebuild_parameter", "_rebuild_parameter_with_state"}
_NOT_DENSE = {
    "_rebuild_qtensor", "_rebuild_sparse_tensor", "_rebuild_meta_tensor_no_storage", "_rebuild_nested_tensor",
    "_rebuild_wrapper_subclass", "_rebuild_device_tensor_from_numpy",
    "_rebuild_device_tensor_from_cpu_tensor",
}  # fmt: skip
_LIBRARY = {"torch.Size", "torch.Tensor", "torch.device", "torch.serialization._get_layout"}
_BUILTINS = {
    "collections.OrderedDict", "collections.Counter", "_codecs.encode", "builtins.bytearray", "builtins.set",
    "builtins.complex",
}  # fmt: skip
#: what may stand beside the weights: nothing of it is made, and nobody needs it
_HARMLESS = {
    "numpy.dtype", "numpy.ndarray", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct", "argparse.Namespace",
    "datetime.datetime", "datetime.date", "datetime.timedelta", "datetime.timezone", "pathlib.PosixPath",
}  # fmt: skip
_LONGEST_SIDE = 1 << 48


@dataclass(frozen=True)
class Name:
    """One of the names that such files need."""

    text: str


@dataclass(frozen=True)
class Storage:
    """Values that lie beside the pickle.

    Attributes:
        key: their name.
        dtype: what they are.
        count: how many.

    """

    key: str
    dtype: str
    count: int

    @property
    def bytes(self) -> int:
        """The number of bytes."""
        return self.count * SIZES[self.dtype]


@dataclass(frozen=True)
class Tensor:
    """A tensor: which values of which storage. `storage` is None where it is not dense."""

    dtype: str
    storage: Storage | None = None
    offset: int = 0
    shape: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        """The number of values; 0 where it is not dense."""
        return 0 if self.storage is None else math.prod(self.shape)


class TorchMachine(PickleMachine):
    """Follows the pickle of a state dict, or of a checkpoint around one.

    Args:
        where: the file, for error texts.

    """

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self.storages: dict[str, Storage] = {}

    def refuse(self, what: str) -> UnsafeFileError:
        """Return the error for what is not followed."""
        return why_unsafe(self.where, what if what.startswith("it calls ") else "")

    def named(self, module: str, name: str) -> Any:
        """Return a name that such files need; no other."""
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        text = f"{module}.{name}"
        if not _is_known(module, name):
            raise self.refuse(f"it calls {text.removeprefix('builtins.')}")
        return Name(text)

    def reduced(self, function: Any, arguments: Any) -> Any:
        """Return what stands for the result of a call."""
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise self.refuse("a call of something else than a name")
        name = function.text.rpartition(".")[2]
        if name == "_rebuild_from_type_v2":
            inner = arguments[0]
            return Odd() if inner == function else self.reduced(inner, arguments[2])
        if name in _DENSE:
            return _dense(name, arguments)
        if name in _PARAMETERS or name == "Parameter":
            return arguments[0]
        if name in _NOT_DENSE:
            return Tensor(_dtype_within(arguments))
        makers: dict[str, Any] = {
            "OrderedDict": _ordered,
            "Size": _size,
            "set": _nothing,
            "Counter": _ordered,
        }
        return makers[name](*arguments[:1]) if name in makers else Odd(name)

    def built(self, target: Any, state: Any) -> Any:
        """Leave out attributes: no tensor is among them."""
        if not isinstance(target, dict | Tensor | Odd):
            raise self.refuse("a state of something else than a tensor or a dict")
        return target

    def persistent(self, identity: Any) -> Any:
        """Return a storage."""
        match identity:
            case ("storage" | b"storage", Name(text), key, _, int(count), *view):
                kind = text.rpartition(".")[2]
                if kind in STORAGES and 0 <= count < _LONGEST_SIDE and not (view and view[0] is not None):
                    found = Storage(_text(key), STORAGES[kind][0], count)
                    return self.storages.setdefault(found.key, found)
        raise ValueError("a storage of an unknown kind")


def why_unsafe(where: str, call: str = "") -> UnsafeFileError:
    """Return the error for a pickle that would run code."""
    return UnsafeFileError(
        f"{where}: expected a state dict of plain tensors, got a pickle that would run code when read "
        f"({call or 'it holds more than plain tensors'}); nothing was run. If you trust its author, "
        "--allow-unsafe loads it"
    )


def _is_known(module: str, name: str) -> bool:
    text = f"{module}.{name}"
    if module == "torch._utils":
        return name in _DENSE | _PARAMETERS | _NOT_DENSE
    if module == "torch" and (name in STORAGES or name in SIZES or name in _QUANTIZERS):
        return True
    if module in {"torch", "torch.sparse", "torch.cuda"} and name.endswith(("Tensor", "Storage")):
        return name.removesuffix("Tensor").removesuffix("Storage").isalnum() or name == "Tensor"
    return (
        text in _LIBRARY | _BUILTINS | _HARMLESS
        or text in {"torch.nn.parameter.Parameter", "torch._tensor._rebuild_from_type_v2"}
        or text in {"torch.storage.UntypedStorage", "torch.storage.TypedStorage"}
    )


def _dense(name: str, arguments: tuple[Any, ...]) -> Tensor:
    storage, offset, shape, stride = arguments[:4]
    if not isinstance(storage, Storage):
        raise TypeError("a tensor without its storage")
    dtype = storage.dtype
    if name.endswith("_v3"):
        dtype = _dtype_within(arguments[6:7])
    shape, stride = _whole(shape), _whole(stride)
    (offset,) = _whole((offset,))
    if len(shape) != len(stride):
        raise ValueError(f"a tensor of shape {shape} with the steps {stride}")
    last = offset + sum((side - 1) * step for side, step in zip(shape, stride, strict=True))
    if math.prod(shape) and (last + 1) * SIZES[dtype] > storage.bytes:
        raise ValueError(f"a tensor of shape {shape} out of {storage.count} values")
    if dtype.startswith("q"):
        return Tensor(dtype)
    return Tensor(dtype, storage, offset, shape, stride)


def _whole(values: Any) -> tuple[int, ...]:
    if not isinstance(values, tuple | list) or len(values) > 64:
        raise TypeError("a tensor of an impossible shape")
    for value in values:
        if type(value) is not int or not 0 <= value < _LONGEST_SIDE:
            raise ValueError("a tensor of an impossible shape")
    return tuple(values)


def _dtype_within(arguments: Any) -> str:
    """Return the type that stands among the arguments of a call; PyTorch's usual one where none does."""
    for item in arguments:
        if isinstance(item, Name) and item.text.removeprefix("torch.") in SIZES:
            return item.text.removeprefix("torch.")
        if isinstance(item, Storage | Tensor):
            return item.dtype
        if isinstance(item, tuple) and item is not arguments:
            inner = next((part for part in item if isinstance(part, Storage | Tensor)), None)
            if inner is not None:
                return inner.dtype
    return "float32"


def _ordered(pairs: Any = ()) -> dict[Any, Any]:
    if isinstance(pairs, dict):
        return dict(pairs)
    whole = isinstance(pairs, list) and all(
        isinstance(pair, tuple | list) and len(pair) == 2 for pair in pairs
    )
    return {key: value for key, value in pairs if isinstance(key, str | int)} if whole else {}


def _nothing(_values: Any = ()) -> Odd:
    return Odd()


def _size(sides: Any = ()) -> tuple[Any, ...]:
    return tuple(sides)


def _text(key: Any) -> str:
    return key.decode("ascii", "replace") if isinstance(key, bytes) else str(key)[:200]
