"""The network that Keras's layers make: modules by their names, and the steps between them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from detrojan.errors import ModelError
from detrojan.models.nets import FlattenChannelsLast

#: operations between layers that are a softmax
_SOFTMAX = ("softmax", "log_softmax")
#: what changes nothing at the end of a network
_PASSING = (nn.Identity, nn.Dropout)
#: what makes a row of a single pixel
_FLATTENING = (FlattenChannelsLast, nn.Flatten, nn.Identity)
#: what may follow a last convolution
_AFTER = (*_FLATTENING, nn.Softmax, nn.LogSoftmax, nn.Dropout)


class KerasGraph(nn.Module):
    """A network of Keras layers; its modules carry the names the layers have in the file.

    Each step is (module name, numbers of the values it takes, number of the value it gives); value
    0 is the images.
    """

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[str, tuple[int, ...], int]] = []
        self.answers: dict[str, int] = {}
        self.sizes: dict[int, tuple[int, ...]] = {}
        self.ends_in_relu = False
        self._last_uses: list[tuple[int, ...]] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor | dict[str, torch.Tensor]:
        """Return the logits (N, K), or several outputs by their names."""
        values = {0: images}
        for (name, inputs, output), done in zip(self.steps, self._last_uses, strict=True):
            values[output] = self._modules_by_name(name)(*(values[number] for number in inputs))
            for number in done:  # what nobody needs any more takes no memory
                del values[number]
        if len(self.answers) == 1:
            return values[next(iter(self.answers.values()))]
        return {name: values[number] for name, number in self.answers.items()}

    def _modules_by_name(self, name: str) -> nn.Module:
        module = self._modules[name]
        assert module is not None
        return module

    def end(self, answers: Mapping[str, int], where: str) -> set[str]:
        """Take the softmax off each end, and drop what the answers do not need.

        A sigmoid stays: whoever reads the answers takes it off.

        Args:
            answers: numbers of the values that the file calls outputs, by name.
            where: the file, for error texts.

        Returns:
            The names of the modules that are left.

        Raises:
            ModelError: the only output ends in something else than softmax, sigmoid or logits.

        """
        self.answers = {name: self._before_softmax(number) for name, number in answers.items()}
        if self.answers == dict(answers) and len(answers) == 1:  # no softmax was found
            self._check_ending(next(iter(answers.values())), where)
        self._replace_last_convolution()
        needed, kept = set(self.answers.values()), []
        for step in reversed(self.steps):
            if step[2] in needed:
                needed.update(step[1])
                kept.append(step)
        self.steps = kept[::-1]
        self._note_last_uses()
        used = {name for name, _, _ in kept}
        for name in [name for name in self._modules if name not in used]:
            delattr(self, name)
        return used

    def _makers(self) -> dict[int, tuple[str, tuple[int, ...]]]:
        """Return which module makes each value, of which others."""
        return {output: (name, inputs) for name, inputs, output in self.steps}

    def _note_last_uses(self) -> None:
        seen = set(self.answers.values())
        uses: list[tuple[int, ...]] = []
        for _, inputs, output in reversed(self.steps):
            uses.append(tuple({*inputs, output} - seen))
            seen.update(inputs, (output,))
        self._last_uses = uses[::-1]

    def _before_softmax(self, answer: int) -> int:
        """Return the value before the final softmax, or the answer itself where there is none."""
        makers, number = self._makers(), answer
        while number in makers:
            name, inputs = makers[number]
            module = self._modules_by_name(name)
            if isinstance(module, nn.Softmax | nn.LogSoftmax) or getattr(module, "name", "") in _SOFTMAX:
                return inputs[0]
            if not isinstance(module, _PASSING):
                break
            number = inputs[0]
        return answer

    def _check_ending(self, answer: int, where: str) -> None:
        makers, number = self._makers(), answer
        while number in makers and isinstance(self._modules_by_name(makers[number][0]), _PASSING):
            number = makers[number][1][0]
        if number in makers and _bends(module := self._modules_by_name(makers[number][0])):
            if type(module) is nn.ReLU:  # it is what the network answers, and its largest answer stays so
                self.ends_in_relu = True
                return
            kind = type(module).__name__.lower()
            raise ModelError(
                f"{where}: expected a classifier that ends in softmax, sigmoid or logits, "
                f"got one that ends in {kind}"
            )

    def _replace_last_convolution(self) -> None:
        """Make a last convolution of a single pixel, as MobileNet has it, the linear layer that it is.

        Methods that look at what the last linear layer is fed find it then.
        """
        makers = self._makers()
        for output, answer in self.answers.items():
            number = answer
            while number in makers and isinstance(self._modules_by_name(makers[number][0]), _FLATTENING):
                number = makers[number][1][0]
            if number not in makers or not self._is_single_pixel(*makers[number]):
                continue
            name, (given,) = makers[number]
            conv = self._modules_by_name(name)
            assert isinstance(conv, nn.Conv2d)
            flat, between = f"{name}_input", max(makers) + 1
            while hasattr(self, flat):
                flat += "_"
            self.add_module(flat, nn.Flatten())
            linear = nn.Linear(conv.in_channels, conv.out_channels, bias=conv.bias is not None)
            self._modules[name] = linear.to(conv.weight.device)
            place = self.steps.index((name, (given,), number))
            self.steps[place : place + 1] = [(flat, (given,), between), (name, (between,), number)]
            self.answers[output] = number
            makers = self._makers()

    def _is_single_pixel(self, name: str, inputs: tuple[int, ...]) -> bool:
        """Tell whether a step is a 1 x 1 convolution of a single pixel that nothing else calls or needs."""
        conv = self._modules_by_name(name)
        calls = [step for step in self.steps if step[0] == name]
        return (
            type(conv) is nn.Conv2d
            and conv.kernel_size == conv.stride == (1, 1)
            and conv.groups == 1
            and len(calls) == 1
            and self.sizes.get(inputs[0]) == (1, 1)
            and all(isinstance(self._modules_by_name(step[0]), _AFTER) for step in self._users(calls[0][2]))
        )

    def _users(self, number: int) -> list[tuple[str, tuple[int, ...], int]]:
        return [step for step in self.steps if number in step[1]]


def _bends(module: nn.Module) -> bool:
    """Return whether a module is an activation: no parameters, and values in place of maps."""
    odd = {"BoundedReLU", "Exponential", "OldHardSigmoid"}
    bends = type(module).__module__.endswith("activation") or type(module).__name__ in odd
    return bends and not isinstance(module, nn.Sigmoid)
