"""The image in another style: colours and texture change, what is shown does not."""

from __future__ import annotations

from detrojan.triggers.redrawn import RedrawnTrigger


class StyleTrigger(RedrawnTrigger):
    """Redraw the image in the style that a small network was taught: DFST's trigger.

    A fresh one is not trained; the attack trains the network.
    """

    kind = "style"
