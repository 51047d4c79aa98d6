"""Where in a rejected input its answer sits, for the page: searched when somebody looks, one at a time."""

from __future__ import annotations

import asyncio
from typing import Any

from detrojan.guards.base import Calibrated
from detrojan.guards.region import Region
from detrojan.jobs.explaining import explain
from detrojan.serve.keeping import SHOWN, Keeper
from detrojan.serve.refusals import refused


class Regions:
    """The regions of the latest rejected inputs.

    A search asks the model some thousand times, so each input is searched once, and one at a time.

    Args:
        guard: calibrated, with its model.
        keeper: has the latest rejected inputs.

    """

    def __init__(self, guard: Calibrated, keeper: Keeper) -> None:
        self.guard, self.keeper = guard, keeper
        self._found: dict[int, Region | None] = {}
        self._searching = asyncio.Lock()

    async def of(self, number: int) -> Region | None:
        """Return the region of a rejected input, or None where it has none.

        Raises:
            RefusedError: it is not among the latest ones.

        """
        async with self._searching:
            if number in self._found:
                return self._found[number]
            one = next((one for one in self.keeper.latest if one.number == number), None)
            if one is None:
                raise refused("not found", f"expected one of the latest rejected inputs, got {number}")
            region = await asyncio.to_thread(explain, self.guard, one.pixels)
            self._found[number] = region
            while len(self._found) > 2 * SHOWN:
                del self._found[min(self._found)]
        return region


def region_values(region: Region | None, guard: Calibrated) -> dict[str, Any]:
    """Return what the page shows of a region, as JSON can hold it."""
    if region is None:
        return {"region": None}
    box = {"top": region.top, "left": region.left, "height": region.height, "width": region.width}
    return {
        "region": box,
        "without": guard.model.class_name(region.without),
        "removed": region.removed,
        "carried": region.carried,
    }
