"""A network with everything that is needed to ask it questions in one common way."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from detrojan.data.in_memory import as_images
from detrojan.errors import DataError, ModelError
from detrojan.models.answers import Answering, answering, inner_of
from detrojan.models.evaluating import evaluating, pieces
from detrojan.models.heads import heads
from detrojan.models.layers import Layer, captured, layers_of
from detrojan.models.preprocessing import Preprocessing
from detrojan.store import digest

#: how many images are judged in one go where the caller does not say
BATCH = 512


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a model came from, and what its writer must know to give back the same kind of file.

    Attributes:
        path: the file, for people.
        sha256: its digest, or empty for a model made in memory.
        format: "torch", "safetensors", "keras" or "memory".
        net: the name of the network in `nets`, or of the factory, or empty.
        details: what the format's reader left for its writer.
        notes: what had to be guessed of it, and how its answers are read, for people.

    """

    path: str = ""
    sha256: str = ""
    format: str = "memory"
    net: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Classifier:
    """A network that answers logits, with its preprocessing and the names of its classes.

    Every method takes images in [0, 1], (N, C, H, W), float32. Several threads may ask one classifier at
    once, also one whose network is shared with another; nobody may train or move the network meanwhile.

    A network may also answer a tuple, a dict, probabilities or one number: see `models.answers`. Then
    `network` is the same one behind a layer that makes logits of its answers; its weights keep their names.

    Args:
        network: maps preprocessed images to logits (N, K), or to what logits can be taken out of.
        input_shape: (C, H, W).
        preprocessing: from [0, 1] to what the network wants.
        class_names: one name per class, or empty.
        origin: where it came from.
        output: for a network with several outputs the one to judge, by its name or its place.

    Raises:
        ModelError: the network does not run on such images, or does not answer (N, K).
        OptionError: several outputs, and none was chosen; or none is called `output`.

    """

    def __init__(
        self,
        network: nn.Module,
        input_shape: tuple[int, int, int],
        *,
        preprocessing: Preprocessing | None = None,
        class_names: tuple[str, ...] = (),
        origin: Origin | None = None,
        output: str | None = None,
    ) -> None:
        self.network = network
        self.input_shape = input_shape
        self.preprocessing = preprocessing or Preprocessing()
        self.class_names = class_names
        self.origin = origin or Origin()
        self._affine = {torch.device("cpu"): self.preprocessing.affine(input_shape[0])}
        self._layers: tuple[Layer, ...] | None = None
        self.num_classes = self._probe(output)
        if class_names and len(class_names) != self.num_classes:
            raise ModelError(
                f"expected {self.num_classes} class names, one per output, got {len(class_names)}"
            )

    def _probe(self, output: str | None) -> int:
        """Run the network once, see to it that it answers logits, and return the number of classes."""

        def ask(network: nn.Module, images: torch.Tensor) -> Any:
            return network(self.prepare(images))

        try:
            with self.judging(), torch.no_grad():
                self.network, notes = answering(self.network, ask, self.input_shape, output)
                blank = torch.zeros(2, *self.input_shape, device=self.device)
                classes = self.logits(blank).shape[1]
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise ModelError(
                f"the network does not run on images of shape {self.input_shape}: {error}"
            ) from error
        if notes:
            where = self.origin.path or "the network"
            more = tuple(said for note in notes if (said := f"{where}: {note}") not in self.origin.notes)
            self.origin = replace(self.origin, notes=(*self.origin.notes, *more))
        return classes

    def __repr__(self) -> str:
        """Say in one line what it is; its weights are not shown."""
        kind = self.origin.net or type(self.network).__name__
        size = " x ".join(str(side) for side in self.input_shape)
        file = f", {self.origin.path}" if self.origin.path else ""
        return f"Classifier({kind}, {size} to {self.num_classes:,} classes, {self.preprocessing}{file})"

    @property
    def answers_only(self) -> bool:
        """Whether nothing but its answers is known: no weights, no layers, no gradients."""
        return False

    @property
    def fingerprint(self) -> str:
        """Digest of the network's weights, by which it is known again."""
        return digest(self.network)

    @property
    def parameters(self) -> int:
        """How many numbers the network has learned."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    @property
    def device(self) -> torch.device:
        """The device the network's parameters are on."""
        first = next(self.network.parameters(), None)
        return torch.device("cpu") if first is None else first.device

    @contextmanager
    def judging(self) -> Iterator[nn.Module]:
        """Run the body with the network in evaluation mode and its parameters frozen.

        Several threads may do so at once. The mode of every module and each parameter's `requires_grad` are
        restored when the last of them leaves.
        """
        with evaluating(inner_of(self.network)):
            yield self.network

    def check(self, images: torch.Tensor) -> None:
        """Refuse images that are not of this network's shape.

        Raises:
            DataError: another number of channels, or another size.

        """
        if tuple(images.shape[1:]) == self.input_shape:
            return
        (channels, height, width), shape = self.input_shape, images.shape[1:]
        kind = {1: "grey", 3: "colour"}.get(channels, f"{channels}-channel")
        raise DataError(
            f"expected {kind} images {height} high x {width} wide x {channels} as the network's input, "
            f"got {' x '.join(str(n) for n in (*shape[1:], shape[0]))}"
        )

    def prepare(self, images: torch.Tensor) -> torch.Tensor:
        """Return what the network sees for `images`."""
        device = images.device
        if device not in self._affine:  # what is there is never changed: other threads may be using it
            with torch.inference_mode(mode=False):  # they serve gradients too
                scale, shift = self._affine[torch.device("cpu")]
                self._affine[device] = scale.to(device), shift.to(device)
        scale, shift = self._affine[device]
        return self.preprocessing.arranged(torch.addcmul(shift, images, scale))

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits (N, K); differentiable, in one go, in whatever mode the network is in."""
        answer = self.network(self.prepare(images))
        if isinstance(answer, torch.Tensor):
            return answer
        # in training mode some networks answer more tensors than otherwise: the first is the same
        return next(iter(heads(answer).values()))

    def _batched(
        self, images: torch.Tensor, batch: int, ask: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        self.check(images)
        with self.judging(), torch.inference_mode():
            parts = [ask(part.to(self.device)) for part in pieces(images, batch, self.device)]
        # Joined outside of inference mode, so that the caller may use the result in a loss or change it.
        return torch.cat(parts).cpu()

    def all_logits(self, images: torch.Tensor, batch: int = BATCH) -> torch.Tensor:
        """Return the logits (N, K), in batches, without gradients, in evaluation mode."""
        return self._batched(images, batch, self.logits)

    def probabilities(self, images: torch.Tensor, batch: int = BATCH) -> torch.Tensor:
        """Return the softmax of the logits (N, K), in batches."""
        return self._batched(images, batch, lambda part: self.logits(part).softmax(1))

    def answers(self, images: torch.Tensor, batch: int = BATCH) -> torch.Tensor:
        """Return the most likely label of each image (N,), int64."""
        return self._batched(images, batch, lambda part: self.logits(part).argmax(1))

    def predict_proba(self, images: Any) -> NDArray[np.float32]:
        """Return the probabilities (N, K), as scikit-learn's classifiers do.

        Args:
            images: (N, C, H, W) or (N, H, W, C), in [0, 1] or whole numbers in 0..255, or a list of pictures.

        Raises:
            DataError: images of another shape than the network's.
            RangeError: values beyond black and white.

        """
        return self.probabilities(as_images(images, self.input_shape)).numpy()

    def predict(self, images: Any) -> NDArray[np.int64]:
        """Return the most likely label of each image (N,); images as for `predict_proba`."""
        best: NDArray[np.int64] = self.predict_proba(images).argmax(1)
        return best

    def activations(self, images: torch.Tensor, layer: str | None = None, batch: int = BATCH) -> torch.Tensor:
        """Return the output of a named layer, or what the last linear layer is fed (N, units).

        Args:
            images: (N, C, H, W) in [0, 1].
            layer: a name out of `layers`; None for the penultimate features.
            batch: images per forward pass.

        Raises:
            ModelError: no such layer.

        """

        def ask(part: torch.Tensor) -> torch.Tensor:
            with self.capture(layer) as caught:
                self.logits(part)
            return caught[-1]

        return self._batched(images, batch, ask)

    @contextmanager
    def capture(self, layer: str | None = None) -> Iterator[list[torch.Tensor]]:
        """Collect a layer's outputs (None: the input of the last linear layer) of what this thread asks."""
        module = self.module(self.head if layer is None else layer)
        with captured(module, inputs=layer is None) as caught:
            yield caught

    def module(self, name: str) -> nn.Module:
        """Return the module called `name`.

        Raises:
            ModelError: there is none; the message lists the layers.

        """
        modules: dict[str, nn.Module] = dict(self.network.named_modules())
        if name not in modules:
            known = ", ".join(layer.name for layer in self.layers)
            raise ModelError(f"expected a layer out of {known}, got {name!r}")
        return modules[name]

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers in the order in which they run, found by running the network once."""
        if self._layers is not None:
            return self._layers
        with self.judging(), torch.no_grad():
            blank = torch.zeros(1, *self.input_shape, device=self.device)
            self._layers = layers_of(self.network, lambda: self.logits(blank))
        return self._layers

    @property
    def head(self) -> str:
        """Name of the last linear layer: the one that answers the logits.

        Raises:
            ModelError: the network does not end in one.

        """
        linear = [layer.name for layer in self.layers if isinstance(self.module(layer.name), nn.Linear)]
        single = isinstance(self.network, Answering) and self.network.reading.single
        units = 1 if single else self.num_classes
        if isinstance(self.network, Answering):  # the last one may belong to another output
            linear = [name for name in linear if self._answers(name)] or linear
        if not linear or self.module(linear[-1]).out_features != units:
            raise ModelError(
                "expected a network that ends in a linear layer; name the layer to work on instead"
            )
        return linear[-1]

    def _answers(self, layer: str) -> bool:
        """Tell whether the logits are made of a layer's output, as it is."""
        assert isinstance(self.network, Answering)
        blank = torch.zeros(1, *self.input_shape, device=self.device)
        with self.judging(), torch.no_grad(), captured(self.module(layer)) as caught:
            return self.network.numbers(self.prepare(blank)) is caught[-1]

    def head_weights(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the weights (K, D) and biases (K,) that make the logits of what the last layer is fed.

        They are copies on the CPU. Where one output stands for two classes, those of class 0 are zeros.

        Raises:
            ModelError: the network does not end in a linear layer.

        """
        head = self.module(self.head)
        assert isinstance(head, nn.Linear)
        weight = head.weight.detach().cpu().clone()
        bias = torch.zeros(len(weight)) if head.bias is None else head.bias.detach().cpu().clone()
        if len(weight) < self.num_classes:
            weight = torch.cat([torch.zeros_like(weight), weight])
            bias = torch.cat([torch.zeros_like(bias), bias])
        return weight, bias

    def with_preprocessing(self, preprocessing: Preprocessing) -> Classifier:
        """Return the same network (shared, not copied) behind another preprocessing."""
        return self._around(self.network, preprocessing)

    def copy(self) -> Classifier:
        """Return an independent copy; changing it leaves this one as it is."""
        return self._around(copy.deepcopy(self.network), self.preprocessing)

    def _around(self, network: nn.Module, preprocessing: Preprocessing) -> Classifier:
        return Classifier(
            network,
            self.input_shape,
            preprocessing=preprocessing,
            class_names=self.class_names,
            origin=replace(self.origin),
        )

    def to(self, device: str | torch.device) -> Classifier:
        """Move the network to a device, in place, and return this classifier."""
        self.network.to(device)
        return self

    def class_name(self, label: int) -> str:
        """Return the name of a label, or its number as text."""
        return self.class_names[label] if self.class_names else str(label)
