"""The cascade names the target and only it, is silent on the clean twin, and says what it looked at."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from detrojan.data.dataset import Dataset
from detrojan.data.reading import read_data
from detrojan.errors import OptionError
from detrojan.judging.preparing import prepare
from detrojan.machine import bfloat16_is_fast
from detrojan.metrics.accuracy import attack_success
from detrojan.models.classifier import Classifier
from detrojan.models.loading import load_model
from detrojan.models.preprocessing import Preprocessing
from detrojan.run import Run
from detrojan.scans import stages
from detrojan.scans.cascade import Cascade
from detrojan.scans.expected import FIRST_LOOKS
from detrojan.search.jobs import Job
from detrojan.triggers.aim import Aim
from twins import CLASSES, TARGET

#: a third of the work that it does by default: the networks are small
SCAN = Cascade(samples=200, batch_size=8, patch_steps=50, window_steps=30, additive_steps=25)


@pytest.fixture(scope="module")
def found(twins):
    return SCAN.scan(twins.backdoored, twins.test.with_labels(None), run=Run(seed=1))


def test_it_names_the_target_and_only_it(twins, found):
    assert found.verdict == "backdoored"
    assert found.targets == [TARGET]
    (finding,) = found.flagged
    assert finding.p_value < 0.05
    assert f"label {TARGET} needs an abnormally small trigger" in found.reason
    images, truth = twins.train.images, twins.train.labels
    assert attack_success(twins.backdoored, finding.trigger, images, truth, TARGET) > 0.8
    assert len(found.findings) == CLASSES
    assert found.details["complete"]
    assert {"additive triggers", "patch triggers"} <= set(found.details["stage_seconds"])
    assert sum(found.details["stage_seconds"].values()) > 0.1
    json.dumps(found.details, allow_nan=False)


def test_it_says_in_what_it_computed(twins, found):
    half = bfloat16_is_fast(torch.device("cpu"))
    assert found.details["computed_in"] == ("bfloat16" if half else "float32")
    plain = SCAN.scan(twins.backdoored, twins.test.with_labels(None), run=Run(seed=1, float32=True))
    assert plain.details["computed_in"] == "float32"
    assert plain.targets == found.targets


def test_the_clean_twin_gives_no_evidence(twins):
    result = SCAN.scan(twins.clean, twins.test, run=Run(seed=1))
    assert result.verdict == "no evidence"
    assert result.targets == []
    assert "would have been one" in result.reason
    assert {"windows", "small patches", "all-to-all"} <= set(result.details["stage_seconds"])


def test_windows_are_not_searched_where_all_is_decided_and_only_there(twins, found, monkeypatch):
    assert "windows" not in found.details["stage_seconds"]
    monkeypatch.setattr(stages, "CERTAIN", 0.0)
    whole = SCAN.scan(twins.backdoored, twins.test.with_labels(None), run=Run(seed=1))
    assert "windows" in whole.details["stage_seconds"]
    assert (whole.verdict, whole.targets) == (found.verdict, found.targets)
    assert whole.passes > found.passes


@pytest.fixture(scope="module")
def asked_for_one(twins):
    return SCAN.scan(twins.backdoored, twins.test, run=Run(), labels=[TARGET])


def test_one_label_is_compared_with_others_drawn_as_controls(asked_for_one):
    result = asked_for_one
    assert [finding.label for finding in result.findings] == [TARGET]
    assert result.targets == [TARGET]
    assert set(result.details["controls"]) == set(range(CLASSES)) - {TARGET}
    assert f"Bonferroni over {CLASSES} labels" in result.details["test"], "all that are computed count"


def test_a_p_value_does_not_hang_on_how_few_labels_were_asked_for(twins, asked_for_one):
    labels = [(TARGET + 1) % CLASSES, TARGET]
    asked_for_two = SCAN.scan(twins.backdoored, twins.test, run=Run(), labels=labels)
    one, two = (result.flagged[0].p_value for result in (asked_for_one, asked_for_two))
    assert one == pytest.approx(two)


def test_a_target_that_is_only_drawn_for_comparison_is_warned_of_and_not_called_a_finding(twins):
    others = [label for label in range(CLASSES) if label != TARGET][:2]
    result = SCAN.scan(twins.backdoored, twins.test, run=Run(), labels=others)
    assert TARGET in result.details["controls"]
    assert result.targets == []
    assert result.verdict != "backdoored"
    assert any(f"label {TARGET} was not to be tested" in warning for warning in result.warnings)
    assert result.reason.startswith(
        f"label {TARGET}, which was not to be tested, only drawn for comparison, needs a trigger of "
    )
    assert "chance" not in result.reason


def test_when_the_time_is_up_it_says_so(twins):
    scan = Cascade(samples=100, budget=1e-9)
    result = scan.scan(twins.backdoored, twins.test, run=Run())
    assert result.verdict == "inconclusive"
    assert not result.details["complete"]
    assert result.passes == 0
    assert f"{CLASSES} labels were not searched; nothing found so far (0 labels tested)" in result.reason
    assert result.findings == ()
    assert result.details["not_tested"] == list(range(CLASSES))
    assert result.details["put_aside"] == 0


def test_an_interruption_gives_what_is_known(twins, monkeypatch):
    def interrupted(*_args, **_more):
        raise KeyboardInterrupt

    monkeypatch.setattr(stages.Stages, "_decided", lambda _self: False)
    monkeypatch.setattr(stages.Stages, "_local", interrupted)
    result = SCAN.scan(twins.backdoored, twins.test, run=Run(seed=1))
    assert result.details["interrupted"]
    assert result.targets == [TARGET], "both searches had ended"


class Planted(nn.Module):
    """A linear network of many labels, one of which looks at a corner that no other looks at."""

    def __init__(self, classes: int, target: int) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(5)
        self.flatten, self.head = nn.Flatten(), nn.Linear(64, classes)
        weight = torch.randn(classes, 64, generator=random)
        weight[:, :4] = 0
        weight[:, 4:] -= weight[:, 4:].mean(1, keepdim=True)  # no label for plain grey
        weight[target] *= 0.3
        weight[target, :4] = torch.tensor([40.0, -40.0, 40.0, -40.0])
        with torch.no_grad():
            self.head.weight.copy_(weight)
            self.head.bias.zero_()
            self.head.bias[target] = -3

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.flatten(images))
        return logits


def test_of_many_labels_the_probes_put_most_aside_and_not_the_target():
    images = torch.rand(300, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 0.2 + 0.4
    model = Classifier(Planted(120, 77), (1, 8, 8))
    result = Cascade().scan(model, Dataset(images, None), run=Run())
    assert result.targets == [77]
    assert result.details["put_aside"] > 60
    assert len(result.findings) == 120
    aside = [f for f in result.findings if f.p_value is None]
    assert all(f.size is None and not f.flagged for f in aside)
    assert result.details["ranks"]["77"]["screening"] == 0


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "target"), [("mnist_single_pixel_all_to_one", 0), ("mnist_baseline", None)])
def test_third_party_networks(shared_data, name, target):
    model = load_model(shared_data / "models" / "dillonsd" / f"{name}.h5")
    data = read_data(shared_data / "mnist.npz", split="test", limit=600)
    result = Cascade().scan(model, data, run=Run())
    assert result.targets == ([] if target is None else [target])
    # where nothing is found, the pairs of labels are searched too
    assert result.passes < (150_000 if target is None else 50_000)


@pytest.mark.realdata
def test_a_wrong_range_is_never_a_silent_verdict(shared_data):
    model = load_model(
        shared_data / "models" / "shihaozhao" / "badnet.pth", net="badnets_cnn", input_shape=(1, 28, 28)
    )
    model = model.with_preprocessing(Preprocessing(high=1.0))
    data = read_data(shared_data / "mnist.npz", split="test", limit=300)
    result = SCAN.scan(model, data, run=Run())
    assert result.verdict != "no evidence"
    assert any("input range" in warning for warning in result.warnings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"controls": 2}, "controls of 5 or more"),
        ({"significance": 0.0}, r"significance in \(0, 1\)"),
        ({"budget": -1.0}, "a budget of 0 seconds or more, got -1"),
        ({"samples": 3}, "expected 20 samples or more, got 3"),
        ({"batch_size": 1}, "batch_size of 2 or more"),
    ],
)
def test_values_out_of_range_are_refused(settings, said):
    with pytest.raises(OptionError, match=said):
        Cascade(**settings)


def test_a_small_trigger_that_fails_on_held_out_images_is_made_stronger(twins, monkeypatch):
    scan = replace(SCAN, goal=0.3, patch_steps=40, window_steps=20, ratio=0.8, significance=0.5)
    before = {}
    strengthen = stages.Stages._strengthen

    def noted(self):
        before.update({entry.job.target: (self.shown(entry)[2], entry.p_value) for entry in self.evidence()})
        strengthen(self)

    monkeypatch.setattr(stages.Stages, "_strengthen", noted)
    strong = scan.scan(twins.backdoored, twins.test, run=Run(seed=1))
    assert "stronger triggers" in strong.details["stage_seconds"]
    success, chance = before[TARGET]
    assert success < strong.findings[TARGET].attack_success
    assert strong.findings[TARGET].p_value == chance


@pytest.mark.parametrize(
    ("chances", "sizes", "flagged"),
    [
        ((0.001, 0.03, 0.05, 0.5), (9, 9, 17, 9), 3),  # the third lies below three times 0.02
        ((0.001, 0.05, 0.05, 0.5), (9, 9, 9, 9), 1),
        ((0.03, 0.03, 0.03, 0.5), (9, 9, 9, 9), 0),  # without a first one there is no second
        ((0.001, 0.03, 0.05, 0.5), (9, 19, 9, 9), 1),  # small by nature: twice the first one's size
        ((0.001, 0.01, 0.05, 0.5), (9, 90, 9, 9), 3),  # that does not matter where the p-value is small
    ],
)
def test_of_several_labels_the_later_ones_may_have_larger_p_values(
    twins, monkeypatch, chances, sizes, flagged
):
    ready = prepare(twins.clean, twins.test, None, 100, Run())
    work = stages.Stages(Cascade(), twins.clean, ready, run=Run(), begun=0.0)
    evidence = [
        SimpleNamespace(p_value=chance, ratio=0.2, job=Job(Aim(target=label)), sizes={"both": float(size)})
        for label, (chance, size) in enumerate(zip(chances, sizes, strict=True))
    ]
    # not small, whatever its p-value
    evidence.insert(1, SimpleNamespace(p_value=0.002, ratio=0.9, job=Job(Aim(target=len(chances)))))
    monkeypatch.setattr(work, "evidence", lambda: evidence)
    assert [entry.p_value for entry in work._strong()] == list(chances[:flagged])


@pytest.mark.parametrize(("smallest", "flagged"), [(6.0, [0]), (28.0, [])])
def test_of_too_many_small_labels_only_those_count_that_are_small_beside_the_others(
    twins, monkeypatch, smallest, flagged
):
    ready = prepare(twins.clean, twins.test, None, 100, Run())
    work = stages.Stages(Cascade(), twins.clean, ready, run=Run(), begun=0.0)
    patches = [smallest, 30.0, 31.0, 33.0, 34.0, 36.0, 38.0, 40.0]
    evidence = [
        SimpleNamespace(
            p_value=0.001,
            ratio=0.2,
            job=Job(Aim(target=label)),
            sizes={"patch": size, "additive": 2.0 + label / 9, "both": size},
        )
        for label, size in enumerate(patches)
    ]
    monkeypatch.setattr(work, "evidence", lambda: evidence)
    assert len(work._strong()) == len(patches)  # of few labels each may be a target
    work.listed = SimpleNamespace()
    assert [entry.job.target for entry in work._strong()] == flagged


def test_patches_are_searched_for_the_better_half_of_the_candidates(twins, monkeypatch):
    ready = prepare(twins.clean, twins.test, None, 100, Run())
    work = stages.Stages(Cascade(), twins.clean, ready, run=Run(), begun=0.0)
    searched: dict[str, list[int]] = {}

    def seek(plan, jobs, _title, choose=None):
        searched[plan.form] = [job.target for job in jobs]
        work.found[plan.form] |= {job: SimpleNamespace(size=float(job.target % 4)) for job in jobs}

    monkeypatch.setattr(work, "_seek", seek)
    monkeypatch.setattr(work, "_local", lambda labels, _, choosy: searched.update(windows=list(labels)))
    work._candidates([1, 2, 4], [3, 7])
    assert searched == {"additive": [1, 2, 4, 3, 7], "patch": [4, 1, 3, 7], "windows": [4, 1, 3, 7]}


def test_a_flagged_label_that_an_early_look_settled_is_searched_to_the_end(twins, monkeypatch):
    monkeypatch.setattr(stages.Stages, "_strengthen", lambda _self: None)
    result = Cascade(samples=300).scan(twins.backdoored, twins.test, run=Run(seed=1))
    (flagged,) = result.flagged
    tested = result.details["sizes"][str(flagged.label)]
    assert result.passes - 40 * 16 * CLASSES - 80 * 16 in {look * 16 * CLASSES for look in FIRST_LOOKS}
    assert flagged.trigger.l1 <= tested["patch"]
    assert flagged.attack_success >= 0.75
