from __future__ import annotations

import pytest

from detrojan.errors import OptionError
from detrojan.search.schedule import Schedule


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"steps": 0}, "expected steps of 1 or more, got 0"),
        ({"mini_batches": 0}, "expected mini_batches of 1 or more, got 0"),
        ({"patience": 0}, "expected patience of 1 or more, got 0"),
        ({"early_stop": 0}, "expected early_stop of 1 or more, got 0"),
        ({"batch_size": 1}, "expected batch_size of 2 or more, got 1"),
        ({"learning_rate": 0.0}, "got 0, 0.001 and 2"),
        ({"initial_cost": -1.0}, "got 0.1, -1 and 2"),
        ({"multiplier": 1.0}, "multiplier above 1, got 0.1, 0.001 and 1"),
        ({"threshold": 0.0}, r"expected a threshold in \(0, 1\]"),
        ({"threshold": 1.1}, "got 1.1 and"),
        ({"betas": (0.5, 1.0)}, r"betas in \[0, 1\), got 0.99 and \(0.5, 1.0\)"),
    ],
)
def test_a_schedule_out_of_range_is_refused(wrong, text):
    with pytest.raises(OptionError, match=text):
        Schedule(**wrong)
