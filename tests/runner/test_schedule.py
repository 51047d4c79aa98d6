from __future__ import annotations

from detrojan.runner.schedule import Schedule


def begun(schedule):
    """Begin all that may begin now."""
    return list(iter(schedule.begin, None))


def test_parts_begin_in_their_order_as_far_as_the_memory_goes():
    schedule = Schedule(5, memory=[4, 4, 9, 2, 1], limit=10)
    assert begun(schedule) == [0, 1, 3]
    schedule.end(0)
    assert begun(schedule) == [4]
    for place in (1, 3, 4):
        schedule.end(place)
    assert begun(schedule) == [2]
    schedule.end(2)
    assert schedule.open == 0


def test_one_part_may_always_run_and_without_a_limit_all_may():
    assert begun(Schedule(2, memory=[99, 99], limit=10)) == [0]
    assert begun(Schedule(3, memory=[99, 99, 99])) == [0, 1, 2]
    assert begun(Schedule(3, limit=10)) == [0, 1, 2]


def test_a_part_whose_worker_died_waits_behind_the_others_and_runs_alone_the_last_time():
    schedule = Schedule(3, tries=3)
    assert begun(schedule) == [0, 1, 2]
    assert schedule.die(0, "killed")
    schedule.end(1)
    assert begun(schedule) == [0]
    assert schedule.die(0, "killed again")
    assert begun(schedule) == [], "another part still runs"
    schedule.end(2)
    assert begun(schedule) == [0]
    assert not schedule.die(0, "killed for good")
    assert schedule.end(0) == ("killed", "killed again", "killed for good")
    assert schedule.open == 0


def test_nothing_begins_beside_a_part_that_runs_alone():
    schedule = Schedule(2, memory=[1, 9], limit=9, tries=2)
    assert begun(schedule) == [0]
    assert schedule.die(0, "killed")
    assert begun(schedule) == [1]
    schedule.end(1)
    assert begun(schedule) == [0]
    fresh = Schedule(2, tries=2)
    assert fresh.begin() == 0
    assert fresh.die(0, "killed")
    assert begun(fresh) == [1]


def test_one_try_is_one_try():
    schedule = Schedule(1, tries=1)
    assert begun(schedule) == [0]
    assert not schedule.die(0, "killed")
