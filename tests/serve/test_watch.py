"""Attack and drift are told apart, and false alarms are as rare as is stated."""

import numpy as np
import pytest
import torch
from scipy import stats

from detrojan.serve.watch import Sequence, Watch

#: clean scores are normal here; 1% of them are rejected
CLEAN, BOUNDARY = 1000, 2.326


def watched(scores, *, clean=CLEAN, seed=0, alarm_every=10_000):
    """Return a watch calibrated on normal scores, and the state after each of the scores."""
    calibrated = torch.from_numpy(np.random.default_rng(seed).normal(size=clean))
    watch = Watch(calibrated, BOUNDARY, alarm_every=alarm_every)
    scores = torch.as_tensor(scores)
    return watch, [watch.add(scores[n : n + 1], scores[n : n + 1] >= BOUNDARY) for n in range(len(scores))]


def test_clean_inputs_raise_no_alarm():
    states = [watched(np.random.default_rng(100 + seed).normal(size=3000), seed=seed)[1] for seed in range(5)]
    assert [state for each in states for state in each if state != "usual"] == []


def attack(seed, share, count=600):
    """Return scores of which a share is far beyond the boundary."""
    chance = np.random.default_rng(seed)
    return np.where(chance.random(count) < share, 4.0, chance.normal(size=count))


@pytest.mark.parametrize("seed", range(4))
def test_rejected_inputs_among_usual_ones_are_an_attack(seed):
    _, states = watched(attack(seed, 0.3), seed=seed)
    assert states[-1] == "under attack"
    assert states.index("under attack") < 60
    assert "drifted" not in states


@pytest.mark.parametrize("seed", range(4))
def test_scores_that_moved_away_from_the_boundary_are_a_drift(seed):
    _, states = watched(np.random.default_rng(seed).normal(-0.8, size=1500), seed=seed)
    assert states[-1] == "drifted"


@pytest.mark.parametrize("seed", range(4))
def test_scores_that_moved_towards_the_boundary_may_be_an_attack_too(seed):
    _, states = watched(np.random.default_rng(seed).normal(0.8, size=1500), seed=seed)
    assert states[-1] == "attack or drift"


@pytest.mark.parametrize("seed", range(4))
def test_an_attack_that_passes_in_part_is_never_taken_for_a_drift_alone(seed):
    """A fifth of the attacker's inputs stay below the boundary, and hardly any others come."""
    chance = np.random.default_rng(seed)
    usual = chance.normal(size=300)
    stamped = np.where(chance.random(400) < 0.2, chance.uniform(1.0, 2.3, 400), 4.0)
    _, states = watched(np.concatenate([usual, stamped]), seed=seed)
    assert states[299] == "usual"
    assert states[-1] == "attack or drift"
    assert "drifted" not in states


def test_an_alarm_ends_after_its_cause():
    chance = np.random.default_rng(2)
    _, states = watched(np.concatenate([attack(1, 0.5), chance.normal(size=3000)]))
    assert states[599] == "under attack"
    assert states[-1] == "usual"


def test_the_bound_on_rejections_is_that_of_clopper_and_pearson():
    watch, _ = watched([], clean=500, seed=3)
    scores = np.random.default_rng(3).normal(size=500)
    rejected = int((scores >= BOUNDARY).sum())
    upper = stats.binomtest(rejected, 500).proportion_ci(0.98, "exact").high
    assert watch.usual_rejected == pytest.approx(upper)


def test_false_alarms_are_no_more_frequent_than_stated():
    """At the very edge of what counts as usual, the mean time to an alarm is the bound or more."""
    bound, times = 200.0, []
    chance = np.random.default_rng(0)
    for _ in range(60):
        sequence = Sequence(np.asarray([0.05]), bound)
        count = 0
        while not sequence.alarm and count < 4000:
            sequence.add(chance.random(1) < 0.05)
            count += 1
        times.append(count)
    mean, error = np.mean(times), np.std(times) / np.sqrt(len(times))
    assert mean - bound > -2 * error


def test_a_sequence_is_the_recursion_of_shiryaev_and_roberts():
    sequence = Sequence(np.asarray([0.2]), 1e9)
    values = np.zeros(4)
    for event in (True, False, True, True):
        sequence.add(np.asarray([event]))
        share = 0.2 + 0.8 * np.asarray([0.05, 0.15, 0.4, 0.8])
        values = (values + 1) * (stats.bernoulli.pmf(event, share) / stats.bernoulli.pmf(event, 0.2))
    assert sequence.value == pytest.approx(values.mean())


def test_a_score_that_is_no_number_counts_as_rejected():
    watch, _ = watched([])
    state = watch.add(torch.full((200,), float("nan")), torch.ones(200, dtype=torch.bool))
    assert state == "under attack"
    assert (watch.counted.inputs, watch.counted.rejected) == (200, 200)


def test_few_clean_inputs_do_not_break_it():
    watch, states = watched([0.0, 5.0, 0.0], clean=1)
    assert states == ["usual"] * 3
    assert watch.usual_rejected > 0.5
