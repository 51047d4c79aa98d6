from __future__ import annotations

import dataclasses

import pytest
import torch

from detrojan.data.dataset import Dataset
from detrojan.errors import DataError, LabelError, OptionError
from detrojan.repairs.unlearn import Unlearn
from detrojan.run import Run
from detrojan.store import digest
from detrojan.triggers.aim import Aim
from detrojan.triggers.patch import PatchTrigger
from twins import LARGE, TARGET

#: a third of the updates by default: the network is small
PLAN = Unlearn(updates=100)


@pytest.fixture(scope="module")
def unlearned(case):
    return PLAN.repair(case.twins.backdoored, case.data, case.findings, run=Run(seed=2))


def test_the_recovered_trigger_no_longer_works(case, unlearned):
    assert case.recovered_success(unlearned.model) < 0.05


def test_the_attacker_s_trigger_works_far_less(case, unlearned):
    assert case.true_success(unlearned.model) < 0.3 * case.true_success(case.twins.backdoored)


def test_clean_accuracy_is_kept(case, unlearned):
    assert case.accuracy(unlearned.model) >= case.accuracy(case.twins.backdoored) - 0.05


def test_the_stamped_images_are_what_does_it(case, unlearned):
    """The same training with a trigger that does nothing leaves the backdoor as it was."""
    harmless = PatchTrigger(torch.zeros(LARGE[1:]), torch.zeros(LARGE))
    finding = dataclasses.replace(case.finding, trigger=harmless)
    made = PLAN.repair(case.twins.backdoored, case.data, [finding], run=Run(seed=2))
    assert case.true_success(made.model) > case.true_success(unlearned.model) + 0.2


def test_it_is_written_down(case, unlearned):
    (step,) = unlearned.steps
    assert step.method == "unlearn"
    start = f"unlearned 1 recovered trigger on {len(case.data)} images: their success went from "
    assert step.summary.startswith(start)
    before, after = (float(part.rstrip("%")) for part in step.summary.removeprefix(start).split(" to "))
    assert before > 90
    assert after < 5
    # 100 updates of 6 batches each
    assert step.curves["epoch"] == [float(epoch) for epoch in range(1, 18)]
    losses = step.curves["training loss"]
    assert losses[-1] / losses[0] < 0.7
    assert step.details["labelled"] is True
    assert step.details["fitting"]["epochs"] == 17


def test_few_images_are_passed_over_more_often(case, monkeypatch):
    seen = []
    monkeypatch.setattr(Unlearn, "tune", lambda self, *_a, **_k: seen.append(self.epochs) or [])
    for plan, epochs in ((Unlearn(), 50), (Unlearn(updates=0), 5), (Unlearn(epochs=60), 60)):
        plan.repair(case.twins.backdoored, case.data, case.findings, run=Run(seed=2))
        assert seen.pop() == epochs


def test_interrupted_with_one_trigger_or_share_it_does_not_go_on_with_another(case, made_up, tmp_path):
    few = case.data.select(slice(128))
    other = dataclasses.replace(made_up, label=TARGET, aim=Aim(target=TARGET))
    asked = [(case.finding, 0.5), (other, 0.5), (case.finding, 0.3)]

    def results(checkpoint):
        made = [
            Unlearn(epochs=1, updates=0, stamped=share).repair(
                case.twins.backdoored, few, [finding], run=Run(seed=2, checkpoint=checkpoint)
            )
            for finding, share in asked
        ]
        return [digest(one.model.network) for one in made]

    alone = results(None)
    assert results(tmp_path) == alone
    assert len(set(alone)) == 3


def test_the_model_given_is_not_touched(case):
    model = case.twins.backdoored
    before = digest(model.network)
    made = Unlearn(epochs=1, updates=2).repair(model, case.data, case.findings, run=Run(seed=2))
    assert digest(model.network) == before
    assert digest(made.model.network) != before


def test_a_clean_network_loses_hardly_anything(case, made_up):
    clean = case.twins.clean
    made = PLAN.repair(clean, case.data, [made_up], run=Run(seed=2))
    assert case.accuracy(made.model) >= case.accuracy(clean) - 0.03


def test_it_works_without_labels(case):
    model = case.twins.backdoored
    images = case.data.with_labels(None)
    made = PLAN.repair(model, images, case.findings, run=Run(seed=2))
    assert f"on {len(images)} images" in made.steps[0].summary
    assert made.steps[0].details["labelled"] is False
    assert case.recovered_success(made.model) < 0.05
    assert case.true_success(made.model) < 0.3


def test_several_triggers_share_the_stamped_images(case, made_up):
    findings = [case.finding, dataclasses.replace(made_up, label=0, aim=Aim(target=0))]
    made = PLAN.repair(case.twins.backdoored, case.data, findings, run=Run(seed=2))
    assert made.steps[0].summary.startswith("unlearned 2 recovered triggers on ")
    assert case.recovered_success(made.model) < 0.05


def test_the_same_seed_gives_the_same_network(case):
    few = case.data.select(slice(128))

    def result(seed: int) -> str:
        made = Unlearn(epochs=1, updates=2).repair(
            case.twins.backdoored, few, case.findings, run=Run(seed=seed)
        )
        return digest(made.model.network)

    assert result(1) == result(1)
    assert result(1) != result(2)


def test_findings_without_a_trigger_are_refused(case):
    for findings, got in (
        ([], "no findings"),
        ([dataclasses.replace(case.finding, trigger=None)], "0 of 1 with one"),
    ):
        with pytest.raises(OptionError, match=f"expected findings with .* for unlearn, got {got}"):
            Unlearn().repair(case.twins.backdoored, case.data, findings, run=Run())


def test_what_does_not_fit_the_network_is_refused(case):
    model = case.twins.backdoored
    with pytest.raises(DataError, match=r"expected colour images 28 high x 28 wide .*, got 32 x 32 x 3"):
        Unlearn().repair(model, Dataset(torch.zeros(4, 3, 32, 32)), case.findings, run=Run())
    small = dataclasses.replace(case.finding, trigger=PatchTrigger.corner((3, 32, 32)))
    with pytest.raises(DataError, match=r"of shape \(3, 32, 32\) as the trigger's, got \(3, 28, 28\)"):
        Unlearn().repair(model, case.data, [small], run=Run())
    beyond = dataclasses.replace(case.finding, label=8, aim=Aim(target=8))
    with pytest.raises(LabelError, match="expected findings of labels 0 to 7, got 8"):
        Unlearn().repair(model, case.data, [beyond], run=Run())


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"epochs": 0}, "expected epochs of 1 or more, .* got 0, 64 and 0.001"),
        ({"learning_rate": float("nan")}, "learning_rate above 0, got 5, 64 and nan"),
        ({"batch_size": 1}, "batch_size of 2 or more .* got 5, 1 and"),
        ({"updates": -1}, "expected updates and shift_pixels of 0 or more, got -1 and 2"),
        ({"shift_pixels": -1}, "expected updates and shift_pixels of 0 or more, got 300 and -1"),
        ({"stamped": 0.0}, r"expected a stamped share in \(0, 1\], got 0"),
        ({"stamped": 1.5}, r"expected a stamped share in \(0, 1\], got 1.5"),
    ],
)
def test_values_out_of_range_are_refused(wrong, text):
    with pytest.raises(OptionError, match=text):
        Unlearn(**wrong)


def test_the_original_trigger_may_be_given_instead(case):
    plan = dataclasses.replace(PLAN, original=((TARGET, case.twins.trigger),))
    made = plan.repair(case.twins.backdoored, case.data, [], run=Run(seed=2))
    assert case.true_success(made.model) < 0.03
    assert case.accuracy(made.model) >= case.accuracy(case.twins.backdoored) - 0.05
    assert made.steps[0].summary.startswith(f"unlearned 1 original trigger on {len(case.data)} images")
    record = plan.hyper_parameters()["original"]
    assert (record[0]["target"], record[0]["trigger"]) == (TARGET, "patch")
    clean = plan.repair(case.twins.clean, case.data, [], run=Run(seed=2))
    assert case.accuracy(clean.model) >= case.accuracy(case.twins.clean) - 0.03


def test_clean_images_alone_unlearn_far_less(case, unlearned):
    plan = dataclasses.replace(PLAN, images="clean")
    made = plan.repair(case.twins.backdoored, case.data, case.findings, run=Run(seed=2))
    assert case.true_success(made.model) > case.true_success(unlearned.model) + 0.3
    assert made.steps[0].summary.startswith(f"trained on {len(case.data)} clean images for 17 epochs: the ")
    # where no label contradicts the network, a finding has nothing to correct
    right = case.data.select(case.twins.backdoored.answers(case.data.images) == case.data.labels)
    brief = dataclasses.replace(plan, epochs=2, updates=0)
    aware, without = (
        brief.repair(case.twins.backdoored, right, findings, run=Run(seed=2))
        for findings in (case.findings, [])
    )
    assert without.steps[0].summary == f"trained on {len(right)} clean images for 2 epochs"
    assert digest(without.model.network) == digest(aware.model.network)


def test_images_of_another_kind_are_refused():
    with pytest.raises(OptionError, match="expected images stamped or clean, got 'dirty'"):
        Unlearn(images="dirty")
