"""The network that Keras's layers make: modules by their names, and the steps between them."""

from __future__ import annotations

import torch
from torch import nn

from detrojan.errors import ModelError


class KerasGraph(nn.Module):
    """A network of Keras layers; its modules carry the names the layers have in the file.

    Each step is (module name, numbers of the values it takes, number of the value it gives); value
    0 is the images.
    """

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[str, tuple[int, ...], int]] = []
        self.answer = 0
        self._last_uses: list[tuple[int, ...]] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits (N, K)."""
        values = {0: images}
        for (name, inputs, output), done in zip(self.steps, self._last_uses, strict=True):
            values[output] = self._modules_by_name(name)(*(values[number] for number in inputs))
            for number in done:  # what nobody needs any more takes no memory
                del values[number]
        return values[self.answer]

    def _modules_by_name(self, name: str) -> nn.Module:
        module = self._modules[name]
        assert module is not None
        return module

    def end(self, answer: int, where: str) -> set[str]:
        """Take the softmax off the end, and drop what the answer does not need.

        Args:
            answer: number of the value that the file calls the output.
            where: the file, for error texts.

        Returns:
            The names of the modules that are left.

        Raises:
            ModelError: it ends in something else than softmax or logits.

        """
        self.answer = self._logits(answer, where)
        needed, kept = {self.answer}, []
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

    def _note_last_uses(self) -> None:
        seen = {self.answer}
        uses: list[tuple[int, ...]] = []
        for _, inputs, output in reversed(self.steps):
            uses.append(tuple({*inputs, output} - seen))
            seen.update(inputs, (output,))
        self._last_uses = uses[::-1]

    def _logits(self, answer: int, where: str) -> int:
        """Return the value before the final softmax; refuse another ending than that or none."""
        makers = {output: (name, inputs) for name, inputs, output in self.steps}
        number = answer
        while number in makers:
            name, inputs = makers[number]
            module = self._modules_by_name(name)
            if isinstance(module, nn.Softmax | nn.LogSoftmax):
                return inputs[0]
            if not isinstance(module, nn.Identity | nn.Dropout):
                break
            number = inputs[0]
        if number in makers and _bends(module := self._modules_by_name(makers[number][0])):
            kind = type(module).__name__.lower()
            raise ModelError(
                f"{where}: expected a classifier that ends in softmax or logits, got one that ends in {kind}"
            )
        return answer


def _bends(module: nn.Module) -> bool:
    """Return whether a module is an activation: no parameters, and values in place of maps."""
    return type(module).__module__.endswith("activation") or type(module).__name__ in {
        "BoundedReLU",
        "Exponential",
    }
