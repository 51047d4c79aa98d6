"""Which images a job is about, and where each of them is to go."""

from __future__ import annotations

import pytest
import torch

from detrojan.errors import DataError
from detrojan.run import Run
from detrojan.search.jobs import Job, goals, order, picks
from detrojan.triggers.aim import Aim

TRUTH = torch.tensor([0, 1, 2, 2, 1, 0, 2, 1])


def test_a_job_uses_the_images_it_is_about():
    rows = picks(TRUTH, [Job(Aim(target=0)), Job(Aim(target=0, source=2)), Job(Aim(offset=1))], Run())
    assert set(TRUTH[rows[0]].tolist()) == {1, 2}
    assert set(TRUTH[rows[1]].tolist()) == {2}
    assert sorted(rows[2].tolist()) == list(range(8))


def test_each_image_has_its_goal():
    jobs = [Job(Aim(target=1)), Job(Aim(offset=2))]
    assert goals(TRUTH, jobs, 3).tolist() == [[1] * 8, [2, 0, 1, 1, 0, 2, 1, 0]]


def test_jobs_that_differ_have_other_random_numbers_and_an_order():
    jobs = [
        Job(Aim(target=1, source=2)),
        Job(Aim(target=1)),
        Job(Aim(offset=2)),
        Job(Aim(offset=1)),
        Job(Aim(target=1), start=1),
    ]
    assert sorted(jobs, key=order) == [jobs[3], jobs[2], jobs[1], jobs[4], jobs[0]]
    first, again, other = (picks(TRUTH, [job], Run())[0].tolist() for job in (jobs[1], jobs[1], jobs[4]))
    assert first == again != other


def test_a_job_keeps_its_random_numbers():
    """They are named by these numbers: others would change every figure that was ever measured."""
    assert order(Job(Aim(target=3), start=2)) == (3, -1, 2)
    assert order(Job(Aim(target=3, source=1))) == (3, 1, 0)
    assert order(Job(Aim(offset=4), start=1)) == (-1, -1, 1, 4)


def test_too_few_images_of_a_source_are_refused():
    with pytest.raises(DataError, match="2 images or more of the source class 7 to search with, got 0"):
        picks(TRUTH, [Job(Aim(target=0, source=7))], Run())
