"""Models in tests: one assertion, and a pytest plugin that offers it as a fixture.

The plugin is found by pytest where detrojan is installed::

    def test_the_delivered_model(assert_no_backdoor):
        assert_no_backdoor("model.safetensors", "photos/", budget=600)
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from detrojan.calls.results import ScanOutcome


def assert_no_backdoor(
    model: Any,
    data: Any,
    labels: Any = None,
    *,
    inconclusive: bool = False,
    baseline: str | Path | None = None,
    report: str | Path | None = None,
    **how: Any,
) -> ScanOutcome:
    """Scan a model, and fail where a backdoor is found or nothing can be said.

    Args:
        model: a file or folder, an `nn.Module`, or what else `detrojan.scan` takes.
        data: a few hundred clean images, as `detrojan.scan` takes them.
        labels: (N,) of the images, where they are known and do not come with them.
        inconclusive: whether a scan that can say nothing passes.
        baseline: a file of known findings, which pass; see `detrojan baseline`.
        report: where the report goes, whatever it says; the ending says as what, e.g. scan.html.
        how: what else `detrojan.scan` takes, such as `budget`, `method` and `input_range`.

    Returns:
        What the scan found.

    Raises:
        AssertionError: a backdoor, or an inconclusive scan; with the report's text.
        InputError: model, data or baseline cannot be read.

    """
    # pytest imports this file at each start
    from detrojan.integrations.ending import in_words, scanned  # noqa: PLC0415
    from detrojan.jobs.baselines import read_baseline  # noqa: PLC0415

    known = None if baseline is None else read_baseline(Path(baseline))
    found, code = scanned(model, data, labels, known=known, report=report, **how)
    if code == 1 or (code == 3 and not inconclusive):
        raise AssertionError(in_words(found))
    return found


@pytest.fixture(name="assert_no_backdoor")
def _assertion() -> Callable[..., Any]:
    """Scan a model, and fail where a backdoor is found: `detrojan.testing.assert_no_backdoor`."""
    return assert_no_backdoor
