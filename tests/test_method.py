from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass

import pytest

from detrojan.method import Method


@dataclass(frozen=True, kw_only=True)
class Sample(Method):
    """Find the trigger by asking
    nicely.

    More text that is no summary.

    Reference: Somebody et al., Asking Nicely,
    Journal of Manners, 2020.

    Args:
        steps: how often to ask,
            1 or more.
        rate: how fast, above 0 to 1 (the paper: 0.5).

    Raises:
        Nothing: here.

    """

    name = "sample"

    steps: int = 3
    rate: float = 0.5
    sizes: tuple[int, ...] = (1, 2)


@dataclass(frozen=True, kw_only=True)
class Bare(Method):
    pass


def test_summary_is_the_first_paragraph_in_one_line():
    assert Sample.summary() == "Find the trigger by asking nicely."


def test_reference_is_joined_to_one_line():
    assert Sample.reference() == "Somebody et al., Asking Nicely, Journal of Manners, 2020."


def test_parameter_docs_join_lines_and_stop_at_the_next_section():
    assert Sample.parameter_docs() == {
        "steps": "how often to ask, 1 or more.",
        "rate": "how fast, above 0 to 1 (the paper: 0.5).",
    }


def test_without_docs_there_are_none():
    Bare.__doc__ = None
    assert Bare.summary() == ""
    assert Bare.reference() == ""
    assert Bare.parameter_docs() == {}


def test_hyper_parameters_are_the_fields_and_nothing_else():
    assert Sample(steps=7).hyper_parameters() == {"steps": 7, "rate": 0.5, "sizes": (1, 2)}


def test_a_method_cannot_be_changed_and_takes_no_positional_arguments():
    with pytest.raises(FrozenInstanceError):
        Sample().steps = 4
    with pytest.raises(TypeError, match="positional"):
        Sample(4)


def test_parameter_docs_of_the_bases_come_first_and_may_be_said_anew():
    @dataclass(frozen=True, kw_only=True)
    class Child(Sample):
        """A child.

        Args:
            own: its own, 0 or more.

        """

        own: int = 0

    assert Child.parameter_docs() == Sample.parameter_docs() | {"own": "its own, 0 or more."}
    assert list(Child.parameter_docs())[-1] == "own"
