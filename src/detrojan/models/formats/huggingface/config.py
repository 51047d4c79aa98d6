"""What config.json says: which network it is, what it must not say, and the names of the classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from detrojan.errors import ModelError, UnsafeFileError

#: what asks for code of the folder's own, or for code from the hub
_CODE = ("auto_map", "trust_remote_code")
#: what says how a network is computed or stored, not what it computes; the library's own choice is taken
_LEFT_OUT = {
    *("_name_or_path", "attn_implementation", "_attn_implementation", "_attn_implementation_internal"),
    *("_experts_implementation", "_experts_implementation_internal", "experts_implementation"),
    *("torch_dtype", "dtype", "torchscript", "fusion_config", "use_kernels", "kernel_config"),
    *("transformers_weights", "distributed_config", "base_model_tp_plan", "base_model_pp_plan"),
    *("output_hidden_states", "output_attentions", "return_dict", "use_return_dict"),
}
#: what asks for a download, or for weights that are no plain numbers
_REFUSED = ("quantization_config", "use_pretrained_backbone")
_ENDING = "ForImageClassification"
#: no network that judges pictures has more classes
_MOST_CLASSES = 1_000_000


def checked(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return what the network is built from.

    Raises:
        UnsafeFileError: it asks for code to be run.
        ModelError: it is no image classifier, or asks for what is not read.

    """
    for key, value in _entries(config):
        if key in _CODE and value:
            raise UnsafeFileError(
                f"{where}: expected a network that the library knows, got one that needs code of its own "
                f"({key}); nothing was run, and no option runs it"
            )
        if key in _REFUSED and value:
            raise ModelError(f"{where}: expected weights that are read as they are, got {key} in its config")
    found: dict[str, Any] = _without(config)
    if not is_timm(found):
        _check_task(found, where)
    return found


def is_timm(config: Mapping[str, Any]) -> bool:
    """Tell whether it is the config of a folder that timm wrote."""
    return isinstance(config.get("architecture"), str)


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield key, inner
            yield from _entries(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _entries(inner)


def _without(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without(inner) for key, inner in value.items() if key not in _LEFT_OUT}
    return [_without(inner) for inner in value] if isinstance(value, list) else value


def _check_task(config: Mapping[str, Any], where: str) -> None:
    names = config.get("architectures") or []
    if not isinstance(config.get("model_type"), str) or not isinstance(names, list):
        raise ModelError(f"{where}: expected the type of a network in its config.json, got none")
    if names and not any(isinstance(name, str) and _ENDING in name for name in names):
        raise ModelError(
            f"{where}: detrojan judges image classifiers, and this is a {names[0]!s:.80} "
            f"(expected ...{_ENDING})"
        )


def class_names(config: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """Return one name per class, or none where they only repeat the numbers.

    Raises:
        ModelError: names that do not belong to the classes 0, 1, 2, ...

    """
    said = config.get("id2label")
    if is_timm(config):
        said = _timm_names(config)
    if not said:
        return ()
    try:
        named = {int(key): str(name) for key, name in said.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ModelError(f"{where}: expected id2label to name classes by their numbers: {error}") from error
    if len(named) > _MOST_CLASSES or sorted(named) != list(range(len(named))):
        raise ModelError(f"{where}: expected id2label to name the classes 0, 1, 2, ..., got {[*named][:4]}")
    names = tuple(named[label] for label in range(len(named)))
    return () if all(name == f"LABEL_{label}" for label, name in enumerate(names)) else names


def _timm_names(config: Mapping[str, Any]) -> dict[int, str] | None:
    """Return the class names of a timm folder, which it keeps at one of two places."""
    inner = config.get("pretrained_cfg")
    names = config.get("label_names") or (inner.get("label_names") if isinstance(inner, dict) else None)
    if isinstance(names, dict):  # by name, in the order of the classes
        names = list(names)
    return {label: str(name) for label, name in enumerate(names)} if isinstance(names, list) else None


def image_sizes(config: Mapping[str, Any]) -> tuple[int, tuple[int, int] | None]:
    """Return the number of channels, and (H, W) of the input where the config says it."""
    channels, size = config.get("num_channels", 3), config.get("image_size")
    if isinstance(size, int):
        size = [size, size]
    good = isinstance(size, list) and len(size) == 2 and all(type(side) is int for side in size)
    return (channels if type(channels) is int else 3), ((size[0], size[1]) if good and size else None)
