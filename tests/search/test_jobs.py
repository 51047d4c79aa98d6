"""Which images a job is about, and where each of them is to go."""

from __future__ import annotations

import pytest
import torch

from detrojan.errors import DataError
from detrojan.run import Run
from detrojan.search.jobs import EACH, Job, order, picks

TRUTH = torch.tensor([0, 1, 2, 2, 1, 0, 2, 1])


def test_a_job_uses_the_images_it_is_about():
    rows = picks(TRUTH, [Job(0), Job(0, source=2), Job(EACH, shift=1)], Run())
    assert set(TRUTH[rows[0]].tolist()) == {1, 2}
    assert set(TRUTH[rows[1]].tolist()) == {2}
    assert sorted(rows[2].tolist()) == list(range(8))


def test_each_image_has_its_goal():
    assert Job(1).goals(TRUTH, 3).tolist() == [1] * 8
    assert Job(EACH, shift=2).goals(TRUTH, 3).tolist() == [2, 0, 1, 1, 0, 2, 1, 0]


def test_jobs_that_differ_have_other_random_numbers_and_an_order():
    jobs = [Job(1, 2), Job(1), Job(EACH, shift=2), Job(EACH, shift=1), Job(1, start=1)]
    assert sorted(jobs, key=order) == [jobs[3], jobs[2], jobs[1], jobs[4], jobs[0]]
    first, again, other = (picks(TRUTH, [job], Run())[0].tolist() for job in (jobs[1], jobs[1], jobs[4]))
    assert first == again != other


def test_too_few_images_of_a_source_are_refused():
    with pytest.raises(DataError, match="2 images or more of label 7 to reach label 0 from, got 0"):
        picks(TRUTH, [Job(0, source=7)], Run())
