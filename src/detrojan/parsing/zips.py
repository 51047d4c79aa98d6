"""What lies in a zip."""

from __future__ import annotations

import zipfile
from pathlib import Path

from detrojan.errors import ModelError


def parse_names(path: Path) -> list[str]:
    """Return the names in a zip.

    Raises:
        ModelError: it is damaged or cut off.

    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ModelError(f"{path}: a zip that is damaged or cut off: {error}") from error
