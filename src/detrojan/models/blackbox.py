"""A model of which nothing is known but its answers: a Python callable, or a server that is asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np
import torch
from torch import nn

from detrojan.errors import AnswersOnlyError, DetrojanError, ModelError, NonFiniteError
from detrojan.method import Method
from detrojan.models.answers import answering
from detrojan.models.classifier import BATCH, Classifier, Origin
from detrojan.models.heads import heads
from detrojan.models.layers import Layer
from detrojan.models.preprocessing import Preprocessing

#: what works without weights, for people
INSTEAD = "scan --method peaks or attractor, guard, evaluate and predict need answers alone"
_HIDDEN = frozenset({"network"})


def check_sees(method: Method, model: Classifier) -> None:
    """Refuse a method that needs more of a model than its answers, where there is no more.

    Raises:
        AnswersOnlyError: the method needs weights or gradients.

    """
    if model.answers_only and not method.answers_only:
        where = model.origin.path or model.origin.net
        raise AnswersOnlyError(
            f"{method.name} needs the network's weights or gradients, and {where} only answers; {INSTEAD}"
        )


class BlackBox(Classifier):
    """A classifier that only answers: no weights, no layers, no gradients.

    Probabilities are recognised as such and taken to logits: see `models.answers`. Whatever needs more than
    answers raises `AnswersOnlyError`.

    Args:
        ask: maps prepared images, a NumPy array or else a tensor (N, C, H, W), float32, to scores (N, K); it
            may also answer a tuple or a dict with these.
        input_shape: (C, H, W).
        preprocessing: from [0, 1] to what the model wants.
        class_names: one name per class, or empty.
        origin: where it is.
        output: for a model with several outputs the one to judge, by its name or its place.
        batch: the most images that it is asked about at once; 1 or more.

    Raises:
        ModelError: it fails on such images, or does not answer (N, K) finite numbers.
        OptionError: several outputs, and none was chosen; or none is called `output`.

    """

    def __init__(
        self,
        ask: Callable[[Any], Any],
        input_shape: tuple[int, int, int],
        *,
        preprocessing: Preprocessing | None = None,
        class_names: tuple[str, ...] = (),
        origin: Origin | None = None,
        output: str | None = None,
        batch: int = BATCH,
    ) -> None:
        self.input_shape = input_shape
        self.preprocessing = preprocessing or Preprocessing()
        self.class_names = class_names
        self.origin = origin or Origin(net=_name(ask))
        self._affine = {torch.device("cpu"): self.preprocessing.affine(input_shape[0])}
        self._layers = None
        where = self.origin.path or f"the callable {self.origin.net}"
        self._asked = asked = _Asked(ask, where, batch)
        self._answering, notes = answering(
            asked, lambda module, images: module(self.prepare(images)), input_shape, output
        )
        more = tuple(text for note in notes if (text := f"{where}: {note}") not in self.origin.notes)
        self.origin = replace(self.origin, notes=(*self.origin.notes, *more))
        self.num_classes = self.logits(torch.zeros(1, *input_shape)).shape[1]
        if class_names and len(class_names) != self.num_classes:
            raise ModelError(
                f"{where}: expected {self.num_classes} class names, one per output, got {len(class_names)}"
            )

    def __repr__(self) -> str:
        """Say in one line what it is."""
        size = " x ".join(str(side) for side in self.input_shape)
        what = self.origin.path or self.origin.net
        return f"BlackBox({what}, {size} to {self.num_classes:,} classes, {self.preprocessing})"

    def __getattr__(self, name: str) -> NoReturn:
        """Refuse the network, which nobody can see."""
        if name in _HIDDEN:
            raise self._refusal("weights")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _refusal(self, what: str) -> AnswersOnlyError:
        where = self.origin.path or self.origin.net
        return AnswersOnlyError(
            f"{where}: expected a network whose {what} can be read, got a model that only answers; {INSTEAD}"
        )

    @property
    def queries(self) -> int:
        """How many images it has been asked about so far."""
        return self._asked.queries

    @property
    def answers_only(self) -> bool:
        """True: nothing but answers is known."""
        return True

    @property
    def fingerprint(self) -> str:
        """Name of what is asked: there are no weights to take a digest of."""
        sides = "x".join(map(str, self.input_shape))
        return f"answers of {self.origin.net}, {sides} to {self.num_classes}"

    @property
    def parameters(self) -> int:
        """0: none is known."""
        return 0

    @property
    def device(self) -> torch.device:
        """Where answers arrive: the CPU."""
        return torch.device("cpu")

    @contextmanager
    def judging(self) -> Iterator[nn.Module]:
        """Run the body; a model that only answers has no modes."""
        yield self._answering

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits (N, K), without gradients.

        Raises:
            AnswersOnlyError: gradients are wanted.
            ModelError: it fails, or answers otherwise than before.

        """
        if images.requires_grad and torch.is_grad_enabled():
            raise self._refusal("gradients")
        found: torch.Tensor = self._answering(self.prepare(images))
        return found

    @property
    def layers(self) -> tuple[Layer, ...]:
        """None can be seen.

        Raises:
            AnswersOnlyError: always.

        """
        raise self._refusal("layers")

    def with_preprocessing(self, preprocessing: Preprocessing) -> BlackBox:
        """Return the same model behind another preprocessing."""
        return self._again(preprocessing)

    def copy(self) -> BlackBox:
        """Return another one that asks the same model."""
        return self._again(self.preprocessing)

    def _again(self, preprocessing: Preprocessing) -> BlackBox:
        made: BlackBox = object.__new__(type(self))
        made.__dict__.update(self.__dict__)
        made.preprocessing = preprocessing
        made._affine = {torch.device("cpu"): preprocessing.affine(self.input_shape[0])}
        return made

    def to(self, device: str | torch.device) -> BlackBox:
        """Return this classifier: it computes where it is."""
        return self


class _FailedError(ModelError):
    """The caller's own code raised something."""


class _Asked(nn.Module):
    """Asks, a few images at a time, and checks what comes back."""

    def __init__(self, ask: Callable[[Any], Any], where: str, batch: int) -> None:
        super().__init__()
        self.ask, self.where, self.batch = ask, where, batch
        self.queries = 0
        self._lock = threading.Lock()
        self._takes_tensors: bool | None = None
        self._shapes: dict[str, tuple[int, ...]] | None = None

    def forward(self, seen: torch.Tensor) -> Any:
        """Return the answer to prepared images: a tensor, or several by name or place."""
        parts = [self._part(seen[start : start + self.batch]) for start in range(0, len(seen), self.batch)]
        found = {name: torch.cat([part[name] for part, _ in parts]) for name in parts[0][0]}
        if list(found) == [""]:
            return found[""]
        return tuple(found.values()) if parts[0][1] else found

    def _part(self, seen: torch.Tensor) -> tuple[dict[str, torch.Tensor], bool]:
        with torch.inference_mode(mode=False), torch.no_grad():
            answer = self._called(seen.detach().cpu().clone())
        found = heads(self._tensors(answer))
        for name, tensor in found.items():
            self._check(tensor, f"{self.where}, output {name}" if name else self.where, len(seen))
        if not found:
            raise ModelError(f"{self.where}: expected scores (N, classes), got {type(answer).__name__}")
        shapes = {name: tuple(tensor.shape[1:]) for name, tensor in found.items()}
        with self._lock:
            self.queries += len(seen)
            self._shapes = before = self._shapes or shapes
        if shapes != before:
            wanted, got = (
                ", ".join(f"(N, {str(s)[1:-1]})" for s in each.values()) for each in (before, shapes)
            )
            raise ModelError(f"{self.where}: expected scores of shape {wanted} as before, got {got}")
        return found, isinstance(answer, tuple | list)

    def _called(self, images: torch.Tensor) -> Any:
        """Ask with an array, or with a tensor where the model takes no array."""
        if self._takes_tensors is not None:
            return self._tried(images if self._takes_tensors else images.numpy())
        try:
            answer = self._tried(images.numpy())
        except _FailedError as error:
            first = error
        else:
            self._takes_tensors = False
            return answer
        try:
            answer = self._tried(images)
        except _FailedError as error:
            raise ModelError(
                f"{first}; with a tensor instead of an array: {type(error.__cause__).__name__}: "
                f"{error.__cause__}"
            ) from error
        self._takes_tensors = True
        return answer

    def _tried(self, images: Any) -> Any:
        try:
            return self.ask(images)
        except DetrojanError:
            raise
        except Exception as error:  # the caller's own code may raise anything
            raise _FailedError(
                f"{self.where} failed on images of shape {tuple(images.shape)}: "
                f"{type(error).__name__}: {error}"
            ) from error

    def _tensors(self, answer: Any) -> Any:
        """Return the answer with tensors of its own instead of arrays and numbers."""
        if isinstance(answer, torch.Tensor):
            return answer.detach().cpu().float().clone()
        if isinstance(answer, Mapping):
            return {str(key): self._tensors(value) for key, value in answer.items()}
        if isinstance(answer, tuple):
            return tuple(self._tensors(value) for value in answer)
        if isinstance(answer, list) and answer and isinstance(answer[0], torch.Tensor | np.ndarray):
            return [self._tensors(value) for value in answer]
        try:
            array = np.asarray(answer)
        except ValueError as error:
            raise ModelError(f"{self.where}: expected scores (N, classes): {error}") from error
        if array.dtype.kind not in "fiu":
            raise ModelError(f"{self.where}: expected scores (N, classes), got {array.dtype} {array.shape}")
        if array.ndim == 1 and array.dtype.kind in "iu":
            raise ModelError(
                f"{self.where}: expected scores (N, classes), got a whole number for each image, as labels "
                "are; give what answers probabilities or logits, such as predict_proba"
            )
        return torch.from_numpy(array.astype(np.float32))  # astype copies

    @staticmethod
    def _check(numbers: torch.Tensor, where: str, count: int) -> None:
        if numbers.ndim == 0 or numbers.shape[0] != count:
            raise ModelError(
                f"{where}: expected scores for {count} images, one row each, got shape {tuple(numbers.shape)}"
            )
        bad = int((~numbers.isfinite()).sum())
        if bad:
            raise NonFiniteError(
                f"{where}: expected finite scores, got {bad} NaN or infinite of {numbers.numel()} values"
            )


def _name(ask: Callable[[Any], Any]) -> str:
    return str(getattr(ask, "__name__", type(ask).__name__))
