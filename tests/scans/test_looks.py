"""A search ends at a look that settles the matter, and at no other step."""

from __future__ import annotations

import math

import pytest
import torch

from detrojan.scans.looks import Looks
from detrojan.search.jobs import Job
from detrojan.search.plan import Known
from detrojan.triggers.aim import Aim

JOBS = [Job(Aim(target=label)) for label in range(3)]


@pytest.mark.parametrize(
    ("step", "smallest", "goes_on"),
    [(4, 1.0, False), (4, 9.0, True), (3, 1.0, True), (8, 1.0, False), (9, math.inf, True)],
)
def test_all_jobs_go_on_until_a_look_settles_the_matter(step, smallest, goes_on):
    looks = Looks(jobs=JOBS, steps={4, 8}, settled=lambda sizes: sizes[JOBS[1]] < 5)
    best = torch.tensor([30.0, smallest, math.inf])
    known = Known(step=step, spent=torch.full((3,), step), first=best, best=best, chosen=(0, 1, 2))
    assert list(looks(known)) == ([0, 1, 2] if goes_on else [])
