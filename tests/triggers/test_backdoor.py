from __future__ import annotations

from dataclasses import replace

import pytest

from detrojan.errors import OptionError
from detrojan.triggers.aim import Aim
from detrojan.triggers.backdoor import Backdoor
from detrojan.triggers.patch import PatchTrigger

PATCH = PatchTrigger.corner((1, 4, 4))


def test_a_target_stands_for_an_aim():
    assert Backdoor(trigger=PATCH, target=3, source=1) == Backdoor(trigger=PATCH, aim=Aim(3, 1))
    assert Backdoor(trigger=PATCH, offset=2).aim == Aim(offset=2)
    assert Backdoor(trigger=PATCH).aim.untargeted
    assert replace(Backdoor(trigger=PATCH, target=3), aim=Aim(1)) == Backdoor(trigger=PATCH, target=1)
    with pytest.raises(OptionError, match="expected an aim, or a target"):
        Backdoor(trigger=PATCH, aim=Aim(1), target=2)


def test_success_is_that_of_the_aim(twins):
    images, truth = twins.test.images, twins.test.labels
    backdoor = Backdoor(trigger=twins.trigger, target=3)
    assert backdoor.success(twins.clean, images, truth) == backdoor.aim.success(
        twins.clean, twins.trigger, images, truth
    )
