"""A scan at the end of training with the `Trainer` of Hugging Face Transformers."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from detrojan.integrations.ending import Ending
from detrojan.models.preprocessing_file import from_hugging_face


class ScanAtEnd(Ending):
    """Scan a network of Transformers when its training ends; the last checkpoint is written by then.

    Where the trainer has an image processor, its range, mean and standard deviation hold for the scan, unless
    the caller says them. The images must be of the network's size. What was found is in the trainer's
    `log_history` too. Of several processes the first scans. `Ending` lists what it takes and raises.
    """

    homes: ClassVar[tuple[str, ...]] = ("transformers",)
    base: ClassVar[str] = "TrainerCallback"
    extra: ClassVar[str] = "hf"

    def on_train_end(self, args: Any, state: Any, control: Any, *, model: nn.Module, **more: Any) -> None:
        """Scan the model, and raise or warn."""
        if state.is_world_process_zero:
            logged = self._scan(model, type(model).__name__, **_feeding(more.get("processing_class")))
            state.log_history.append({**logged, "step": state.global_step})
            self._end()


def _feeding(processor: Any) -> dict[str, Any]:
    """Return how an image processor feeds a network; nothing for what is none."""
    if not hasattr(processor, "image_mean"):
        return {}
    found = from_hugging_face(processor.to_dict())
    return {"input_range": (found.low, found.high), "mean": found.mean, "std": found.std}
