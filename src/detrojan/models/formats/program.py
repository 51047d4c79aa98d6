"""Programs with their weights: TorchScript, and what torch.export saves. Loading one runs what is in it."""

from __future__ import annotations

import copy
import warnings
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from detrojan.errors import ModelError, UnsafeFileError, WeightsError
from detrojan.models.classifier import Classifier
from detrojan.models.formats.base import Content, Format, check_same_network
from detrojan.models.formats.batches import in_turn
from detrojan.models.weights import Architecture, Loaded, check_finite


class Program(nn.Module):
    """A compiled network: its weights are this module's own, under their names with "." as "/".

    It always computes as in use: what it does in training is not in the file.

    Args:
        inner: the compiled network.
        count: the number of images that it takes, where it takes no other; 0 where it takes any number.

    """

    def __init__(self, inner: nn.Module, count: int = 0) -> None:
        super().__init__()
        self.count = count
        self.__dict__["inner"] = inner  # not registered: its layers cannot be watched
        self._share()

    def _share(self) -> None:
        inner: nn.Module = self.__dict__["inner"]
        for name, parameter in inner.named_parameters():
            self._parameters[name.replace(".", "/")] = parameter
        for name, buffer in inner.named_buffers():
            self._buffers[name.replace(".", "/")] = buffer

    def forward(self, images: torch.Tensor) -> Any:
        """Return what the compiled network answers."""
        inner = self.__dict__["inner"]
        return in_turn(lambda part: [inner(part)], images, self.count)[0] if self.count else inner(images)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Program:
        self.__dict__["inner"]._apply(fn)  # noqa: SLF001 - the way in which modules are moved
        self._share()
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Program:
        inner: nn.Module = self.__dict__["inner"]
        with torch.no_grad():  # what TorchScript copies would depend on the original otherwise
            other: nn.Module = copy.deepcopy(inner, memo)
        for new, old in zip(other.parameters(), inner.parameters(), strict=True):
            new.requires_grad_(old.requires_grad)
        return Program(other, self.count)


class _ProgramFile(Format):
    """What both kinds share."""

    #: with its article
    what: str
    copies = True
    precedence = 25

    def read(self, path: Path, asked: Architecture, *, allow_unsafe: bool) -> Loaded:
        """Load the program, where that is allowed."""
        if not allow_unsafe:
            raise UnsafeFileError(
                f"{path}: expected weights or a graph, got {self.what}, a program with its weights, which "
                "would run; nothing was run. Save the weights alone: torch.save(model.state_dict(), file), "
                "or export ONNX; if you trust its author, --allow-unsafe loads it"
            )
        self.check(path, asked)
        try:
            network, stated = self.load(path)
        except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, OSError) as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ModelError(f"{path}: {self.what} that cannot be loaded: {first}") from error
        shape = asked.input_shape or stated
        if shape is None:
            raise ModelError(
                f"{path}: expected an input shape (C, H, W) for {self.what}; state --input-shape"
            )
        for parameter in network.parameters():
            parameter.requires_grad_(True)
        check_finite(network.state_dict(), str(path))
        return Loaded(network=network, input_shape=shape, format=self.name)

    def check(self, path: Path, asked: Architecture) -> None:
        """Refuse options that do not suffice, before anything runs."""

    @abstractmethod
    def load(self, path: Path) -> tuple[Program, tuple[int, int, int] | None]:
        """Load the network, and the (C, H, W) that the file states; this runs what is in the file."""

    def state(self, model: Classifier, wanted: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return a model's tensors under the names that the file has for them.

        Raises:
            WeightsError: the network is no longer the one of its file.

        """
        check_same_network(model, [name.replace(".", "/") for name in wanted])
        held = model.network.state_dict()
        found = {name: held[name.replace(".", "/")].detach().cpu() for name in wanted}
        for name, tensor in found.items():
            if tensor.shape != wanted[name].shape:
                raise WeightsError(f"expected {name} {tuple(wanted[name].shape)}, got {tuple(tensor.shape)}")
        return found


class ScriptFile(_ProgramFile):
    """What torch.jit.save wrote."""

    name = "torchscript"
    kind = "TorchScript (.pt)"
    what = "TorchScript"
    listed = ((".pt .ts", "TorchScript: a program with its weights, loaded with --allow-unsafe alone"),)
    suffixes = (".pt", ".pth", ".ts")

    def recognises(self, content: Content) -> bool:
        """Tell whether a zip holds code and constants as torch.jit.save writes them."""
        names = content.names if content.is_zip else ()
        return any(name.endswith("/constants.pkl") for name in names) and any("/code/" in n for n in names)

    def check(self, path: Path, asked: Architecture) -> None:
        """Refuse a file without a stated shape: TorchScript has none."""
        if asked.input_shape is None:
            raise ModelError(
                f"{path}: expected an input shape (C, H, W) for TorchScript; state --input-shape"
            )

    def load(self, path: Path) -> tuple[Program, tuple[int, int, int] | None]:
        """Load the network; this runs what is in the file."""
        return Program(_script(path)), None

    def write(self, model: Classifier, path: Path) -> None:
        """Copy the program that the model came in, with its weights."""
        script = _script(Path(model.origin.path))
        script.load_state_dict(self.state(model, script.state_dict()))
        torch.jit.save(script, str(path))


def _script(path: Path) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script: nn.Module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    return script.eval()


class ExportedFile(_ProgramFile):
    """What torch.export.save wrote."""

    name = "torch.export"
    kind = "a program of torch.export (.pt2)"
    what = "a program of torch.export"
    listed = ((".pt2", "program of torch.export with its weights, loaded with --allow-unsafe alone"),)
    suffixes = (".pt2",)

    def recognises(self, content: Content) -> bool:
        """Tell whether a zip holds an exported program."""
        names = content.names if content.is_zip else ()
        new = any("/models/" in name and name.endswith(".json") for name in names)
        return new or any(name.endswith("serialized_exported_program.json") for name in names)

    def load(self, path: Path) -> tuple[Program, tuple[int, int, int] | None]:
        """Load the network and the shape that it was exported for; this runs what is in the file."""
        program = _exported(path)
        module = program.module()
        for name in ("train", "eval"):  # they raise; the network computes as in use whatever its mode
            module.__dict__.pop(name, None)
        count, shape = _stated(program)
        return Program(module, count), shape

    def write(self, model: Classifier, path: Path) -> None:
        """Copy the program that the model came in, with its weights."""
        program = _exported(Path(model.origin.path))
        held = dict(program.state_dict)
        with torch.no_grad():
            for name, tensor in self.state(model, held).items():
                held[name].copy_(tensor)
        with path.open("wb") as file:
            torch.export.save(program, file)


def _exported(path: Path) -> Any:
    with warnings.catch_warnings(), path.open("rb") as file:
        warnings.simplefilter("ignore")
        return torch.export.load(file)


def _stated(program: Any) -> tuple[int, tuple[int, int, int] | None]:
    """Return the number of images that a program takes, 0 for any, and their (C, H, W) where it states it."""
    names = program.graph_signature.user_inputs
    like = [
        node.meta.get("val")
        for node in program.graph.nodes
        if node.name in names and node.op == "placeholder"
    ]
    if len(like) != 1 or not isinstance(like[0], torch.Tensor) or like[0].ndim != 4:
        return 0, None
    count, *sizes = like[0].shape
    whole = all(isinstance(size, int) for size in sizes)
    return count if isinstance(count, int) else 0, (sizes[0], sizes[1], sizes[2]) if whole else None
