"""What holds for every method of every room, whoever wrote it; the methods are found, not listed.

Effects (the attack succeeds, the scan names the target, the repair lowers the attack's success) are
asserted in each method's own test file. Here a tiny network is enough: what is asked is that methods
are documented, repeatable, and leave alone what they were given.
"""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.register_assert_rewrite("contracts", "contract_results", "contract_subjects", "contract_variations")

from contract_results import RESULTS  # noqa: E402
from contract_subjects import small  # noqa: E402
from contract_variations import check_trainings_are_told_apart  # noqa: E402
from contracts import (  # noqa: E402
    Used,
    check_continues_where_it_stopped,
    check_documentation,
    check_nothing_given_is_changed,
    check_ranges,
    check_same_seed_same_result,
    check_shape_of_the_class,
    check_silence,
    used,
)
from detrojan import catalog  # noqa: E402

TESTS = Path(__file__).resolve().parent
EVERY = [(room, name) for room in catalog.rooms() for name in catalog.methods(room)]

every_method = pytest.mark.parametrize(("room", "name"), EVERY, ids=[f"{r}-{n}" for r, n in EVERY])


@every_method
def test_is_a_frozen_keyword_only_dataclass_with_defaults(room, name):
    check_shape_of_the_class(catalog.find(room, name))


@every_method
def test_is_documented(room, name):
    check_documentation(catalog.find(room, name))


@every_method
def test_refuses_what_lies_outside_of_the_documented_ranges(room, name):
    check_ranges(catalog.find(room, name))


@every_method
def test_has_its_own_test_file(room, name):
    module = catalog.find(room, name).__module__.rpartition(".")[2]
    path = TESTS / room / f"test_{module}.py"
    assert path.exists(), f"expected {path.relative_to(TESTS.parent)}, which asserts an effect"
    assert catalog.find(room, name).__name__ in path.read_text(encoding="utf-8")


#: by room and name: the first use of each method, on which most promises can be checked
FIRST: dict[tuple[str, str], Used] = {}


@pytest.fixture
def first(room, name, capfd) -> Used:
    """Return one use of the method, the same one for all tests."""
    if (room, name) not in FIRST:
        FIRST[room, name] = used(small(catalog.find(room, name)), capfd)
    return FIRST[room, name]


@every_method
def test_the_same_seed_gives_the_same_result(room, name, first, capfd):
    check_same_seed_same_result(first, used(small(catalog.find(room, name)), capfd, disturbance=2))


@every_method
def test_leaves_model_and_data_as_they_were(room, name, first):
    check_nothing_given_is_changed(first)


@every_method
def test_is_silent(room, name, first):
    check_silence(first)


@every_method
def test_gives_back_what_its_room_promises(room, name, first):
    method = catalog.find(room, name)
    RESULTS[room, catalog.verb(room, method)](small(method), first)


@every_method
def test_continues_where_it_stopped(room, name, first, tmp_path):
    check_continues_where_it_stopped(small(catalog.find(room, name)), first.values, tmp_path)


@every_method
def test_a_training_with_another_hyper_parameter_is_another_training(room, name, tmp_path):
    tried = check_trainings_are_told_apart(catalog.find(room, name), tmp_path)
    assert tried or room != "trainers", "expected a trainer to train"


@pytest.mark.parametrize("room", ["attacks", "scans", "repairs", "guards", "trainers", "filters"])
def test_the_rooms_are_not_empty(room):
    assert catalog.methods(room)
