"""A faint residual of each image's own, in which a steganographic encoder hides a secret."""

from __future__ import annotations

from detrojan.triggers.redrawn import RedrawnTrigger


class SampleSpecificTrigger(RedrawnTrigger):
    """Add a residual that hides a secret in this very image: ISSBA's trigger.

    A fresh one is not trained; the attack trains the encoder. The residual of one image means nothing
    on another one: `stamp_from` puts it there.
    """

    kind = "sample_specific"
