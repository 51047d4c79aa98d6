"""The network that an ONNX graph makes: modules by their names, and the steps between them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from detrojan.models.formats.batches import in_turn


@dataclass(frozen=True)
class Step:
    """One call of a module.

    Attributes:
        module: its dotted name.
        takes: the values that it takes: their numbers, or names of tensors of the network.
        gives: the numbers of the values that it gives; one, unless the module returns a tuple.

    """

    module: str
    takes: tuple[int | str, ...]
    gives: tuple[int, ...]


class OnnxGraph(nn.Module):
    """A network of ONNX operators; value 0 is the images (N, C, H, W).

    Its weights have the names of the initializers wherever these can be names in PyTorch.

    Args:
        count: the number of images that the graph takes, where it takes no other: more are asked in turn,
            missing ones filled up. 0 where it takes any number.

    """

    def __init__(self, count: int = 0) -> None:
        super().__init__()
        self.count = count
        self.steps: list[Step] = []
        self.answers: tuple[int, ...] = (0,)
        self.names: tuple[str, ...] = ("",)
        self._last: list[tuple[int, ...]] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor | dict[str, torch.Tensor]:
        """Return the logits (N, K); by the outputs' names where there are several."""
        answers = self.outputs(images)
        return answers[0] if len(answers) == 1 else dict(zip(self.names, answers, strict=True))

    def outputs(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return all values that are called answers."""
        return in_turn(self._asked, images, self.count) if self.count else self._asked(images)

    def _asked(self, images: torch.Tensor) -> list[torch.Tensor]:
        values: dict[int, torch.Tensor] = {0: images}
        for step, finished in zip(self.steps, self._last, strict=True):
            taken = [self._tensor(key) if isinstance(key, str) else values[key] for key in step.takes]
            made = self.get_submodule(step.module)(*taken)
            if len(step.gives) == 1:
                values[step.gives[0]] = made
            else:
                for place, number in enumerate(step.gives):
                    values[number] = made[place]
            for number in finished:
                del values[number]
        return [values[number] for number in self.answers]

    def _tensor(self, name: str) -> torch.Tensor:
        owner, _, last = name.rpartition(".")
        tensor: torch.Tensor = getattr(self.get_submodule(owner), last)
        return tensor

    def maker(self, number: int) -> Step | None:
        """Return the step that gives a value; None for the images."""
        return next((step for step in self.steps if number in step.gives), None)

    def end_in(self, answers: tuple[int, ...], names: tuple[str, ...]) -> None:
        """Answer these values under these names, and drop the steps that they do not need."""
        self.answers, self.names = answers, names
        needed, kept = {0, *answers}, []
        for step in reversed(self.steps):
            if needed.intersection(step.gives):
                needed.update(key for key in step.takes if isinstance(key, int))
                kept.append(step)
        self.steps = kept[::-1]
        self._plan()

    def _plan(self) -> None:
        """Work out after which step each value is not needed any more."""
        alive, plan = set(self.answers), []
        for step in reversed(self.steps):
            used = {key for key in step.takes if isinstance(key, int)}
            ends = {number for number in used | set(step.gives) if number not in alive}
            plan.append(tuple(sorted(ends)))
            alive.update(used)
        self._last = plan[::-1]

    def drop_unused(self) -> set[str]:
        """Remove the modules and tensors that no step needs; return the names of the tensors that stay."""
        steps = {step.module for step in self.steps}
        modules = {name for name, _ in self.named_modules() if _inside(name, steps)}
        tensors = {key for step in self.steps for key in step.takes if isinstance(key, str)}
        for name, module in list(self.named_modules()):
            if name in modules:
                continue
            for held in (module._parameters, module._buffers):  # noqa: SLF001 - to take them out by name
                for last in [last for last in held if f"{name}.{last}".lstrip(".") not in tensors]:
                    del held[last]
        used = [*modules, *tensors]
        for name, _ in sorted(self.named_modules(), key=lambda item: -len(item[0])):
            if name and not any(one == name or one.startswith(f"{name}.") for one in used):
                owner, _, last = name.rpartition(".")
                delattr(self.get_submodule(owner), last)
        return set(self.state_dict())


def _inside(name: str, modules: set[str]) -> bool:
    """Tell whether a module is one of these, or a part of one."""
    parts = name.split(".")
    return any(".".join(parts[:end]) in modules for end in range(1, len(parts) + 1))
