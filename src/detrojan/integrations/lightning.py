"""A scan at the end of `fit` of Lightning's trainer."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from detrojan.integrations.ending import Ending


class ScanAtEnd(Ending):
    """Scan a LightningModule, whose `forward` answers logits, when `fit` ends.

    Checkpoints are written by then. What was found goes to the trainer's loggers too. Of several processes
    the first scans. `Ending` lists what it takes and raises.
    """

    homes: ClassVar[tuple[str, ...]] = ("lightning.pytorch", "pytorch_lightning")
    extra: ClassVar[str] = "lightning"

    def on_fit_end(self, trainer: Any, pl_module: nn.Module) -> None:
        """Scan the module, and raise or warn."""
        if trainer.is_global_zero:
            logged = self._scan(pl_module, type(pl_module).__name__)
            for logger in trainer.loggers:
                logger.log_metrics(logged, step=trainer.global_step)
            self._end()
