"""A scan at the end of `fit` of Keras."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from detrojan.integrations.ending import Ending


class ScanAtEnd(Ending):
    """Scan a Keras model when `fit` ends; whatever its backend is.

    The model is written to a `.keras` file for the time of the scan and read as any other file. Give this
    callback last: those before it may still change the weights. `Ending` lists what it takes and raises.
    """

    homes: ClassVar[tuple[str, ...]] = ("keras.callbacks",)
    extra: ClassVar[str] = "keras"

    #: the framework sets it
    model: Any

    def on_train_end(self, logs: Any = None) -> None:
        """Scan the model, and raise or warn."""
        with TemporaryDirectory(prefix="detrojan-") as folder:
            path = Path(folder) / "model.keras"
            self.model.save(path)
            self._scan(path, f"{self.model.name}.keras")
        self._end()
