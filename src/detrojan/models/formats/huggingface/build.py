"""Builds the network of a Hugging Face folder by transformers' own code, offline, and fills it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from detrojan.errors import ModelError, WeightsError
from detrojan.extras import require
from detrojan.models.weights import check_finite

EXTRA, WHAT = "hf", "Hugging Face folders"
#: settings that say how often a network repeats a part
_COUNTS = ("layers", "depth", "depths", "blocks", "stages")
#: numbers that a network may have beyond four times those of its file: buffers that are computed
_SPARE = 1 << 26


def logits_of(_module: nn.Module, _given: tuple[Any, ...], answer: Any) -> torch.Tensor:
    """Return the logits out of what an image classifier of transformers answers: a hook on its answers."""
    logits: torch.Tensor = answer.logits
    return logits


@contextmanager
def offline() -> Iterator[None]:
    """Keep the hub's client from the network, and transformers from speaking, while the body runs."""
    constants = require("huggingface_hub.constants", extra=EXTRA, what=WHAT)
    speech = require("transformers.utils.logging", extra=EXTRA, what=WHAT)
    before = (constants.HF_HUB_OFFLINE, os.environ.get("HF_HUB_OFFLINE"))
    level, bars = speech.get_verbosity(), speech.is_progress_bar_enabled()
    constants.HF_HUB_OFFLINE, os.environ["HF_HUB_OFFLINE"] = True, "1"
    speech.set_verbosity(speech.CRITICAL)
    speech.disable_progress_bar()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before[0]
        if before[1] is None:
            os.environ.pop("HF_HUB_OFFLINE", None)
        else:
            os.environ["HF_HUB_OFFLINE"] = before[1]
        speech.set_verbosity(level)
        if bars:
            speech.enable_progress_bar()


def build(config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], where: str) -> nn.Module:
    """Return the network that a config describes, filled, in evaluation mode; it answers logits (N, K).

    Args:
        config: what config.json says, checked.
        tensors: the weights by the names of the file.
        where: the folder, for error texts.

    Raises:
        ModelError: a network that the library does not know, or cannot build.
        WeightsError: the weights do not fit it.
        MissingExtraError: transformers is not installed.

    """
    check_finite(tensors, where)
    check_counts(config, len(tensors), where)
    with offline():
        made, kind = _kind_of(config, where)
        try:
            with torch.device("meta"):
                bare = kind(made)
            check_size(bare, tensors, where)
            network, found = kind.from_pretrained(
                None,
                config=made,
                state_dict=dict(tensors),
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                local_files_only=True,
                trust_remote_code=False,
            )
        except WeightsError:
            raise
        except Exception as error:  # the library may raise anything where a config makes no sense
            raise ModelError(f"{where}: its network cannot be built: {first_line(error)}") from error
    _check_fit(found, where)
    network.register_forward_hook(logits_of)
    filled: nn.Module = network.eval()
    return filled


def first_line(error: Exception) -> str:
    """Return what an error says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ": ".join(lines[:2])[:300] or type(error).__name__


def _kind_of(config: Mapping[str, Any], where: str) -> tuple[Any, Any]:
    """Return the library's config and the class of the network."""
    library = require("transformers", extra=EXTRA, what=WHAT)
    known = require("transformers.models.auto.configuration_auto", extra=EXTRA, what=WHAT).CONFIG_MAPPING
    kinds = require("transformers.models.auto.modeling_auto", extra=EXTRA, what=WHAT)
    name = config["model_type"]
    if name not in known:
        raise ModelError(
            f"{where}: expected a network that transformers {library.__version__} knows, got {name!r:.80}"
        )
    try:
        made = known[name].from_dict(dict(config))
        fits = kinds.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING[type(made)]
    except KeyError as error:
        raise ModelError(
            f"{where}: detrojan judges image classifiers, and transformers has none of the type {name!r:.80}"
        ) from error
    except Exception as error:
        raise ModelError(f"{where}: its config.json makes no network: {first_line(error)}") from error
    wanted = (config.get("architectures") or [None])[0]
    choice = {kind.__name__: kind for kind in (fits if isinstance(fits, tuple | list) else [fits])}
    kind = choice.get(wanted) if wanted else next(iter(choice.values()))
    if kind is None or not kind.__module__.startswith("transformers."):
        raise ModelError(f"{where}: expected {' or '.join(choice)} of the type {name}, got {wanted!s:.80}")
    return made, kind


def check_counts(config: Mapping[str, Any], tensors: int, where: str) -> None:
    """Refuse a network with more parts than the file has tensors: it would be built for hours.

    Raises:
        WeightsError: such a network.

    """
    for key, value in config.items():
        numbers = value if isinstance(value, list) else [value]
        whole = [number for number in numbers if type(number) is int]
        if str(key).rpartition("_")[2] in _COUNTS and sum(whole) > tensors:
            raise WeightsError(
                f"{where}: expected at most {tensors} parts, as it has tensors, got {key} = {value!r:.60}"
            )


def check_size(bare: nn.Module, tensors: Mapping[str, torch.Tensor], where: str) -> None:
    """Refuse a network that is far larger than the file, before memory is taken for it.

    Args:
        bare: the network, without memory.
        tensors: those of the file.
        where: the folder, for error texts.

    Raises:
        WeightsError: such a network.

    """
    wanted = sum(tensor.numel() for tensor in (*bare.parameters(), *bare.buffers()))
    got = sum(tensor.numel() for tensor in tensors.values())
    if wanted > 4 * got + _SPARE:
        raise WeightsError(
            f"{where}: expected {wanted:,} numbers, as its config.json describes them, got {got:,}"
        )


def _check_fit(found: Mapping[str, Any], where: str) -> None:
    """Refuse weights that leave a part of the network at chance."""
    wrong = [
        f"expected {name} {tuple(wanted)}, got {tuple(got)}"
        for name, got, wanted in sorted(found.get("mismatched_keys") or ())
    ]
    wrong += [f"expected {name}, got nothing" for name in sorted(found.get("missing_keys") or ())]
    if wrong:
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise WeightsError(f"{where}: the weights do not fit its config.json: {'; '.join(wrong[:3])}{more}")
