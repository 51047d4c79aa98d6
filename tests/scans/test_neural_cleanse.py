from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from detrojan.data.dataset import Dataset
from detrojan.errors import DataError, LabelError, OptionError
from detrojan.judging.outliers import anomaly_indices
from detrojan.metrics.accuracy import attack_success
from detrojan.models.classifier import Classifier
from detrojan.models.loading import load_model
from detrojan.models.preprocessing import Preprocessing
from detrojan.run import Run
from detrojan.scans.neural_cleanse import NeuralCleanse, quick
from detrojan.search.schedule import Inverted
from detrojan.triggers.patch import PatchTrigger
from twins import CLASSES, TARGET

SCAN = NeuralCleanse(steps=40, mini_batches=2, samples=400)


@pytest.fixture(scope="module")
def both(twins):
    """The scan of the backdoored network, and what it inverted; unlabelled data are all it gets."""
    made, invert = [], NeuralCleanse._invert

    def noted(self, *given):
        made.append(invert(self, *given))
        return made[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NeuralCleanse, "_invert", noted)
        found = SCAN.scan(twins.backdoored, twins.test.with_labels(None), run=Run(seed=1))
    return found, made[0]


@pytest.fixture(scope="module")
def found(both):
    return both[0]


def test_it_names_the_target_and_only_it(twins, found):
    assert found.verdict == "backdoored"
    assert found.targets == [TARGET]
    assert found.reason == f"label {TARGET} needs an abnormally small trigger (8 labels tested)"
    assert found.warnings == ()
    (finding,) = found.flagged
    assert finding.anomaly_index > 2
    assert (finding.severity, finding.confidence) == ("high", "high")
    others = [f.size for f in found.findings if not f.flagged]
    assert finding.size < 0.5 * min(others)
    assert found.details["answers"] == "the network's own answers"
    assert (found.details["images"], found.details["held_out"]) == (200, 200)
    json.dumps(found.details)


def test_the_trigger_it_recovers_is_like_the_attacker_s_and_works_on_the_network(twins, found):
    (finding,) = found.flagged
    assert finding.trigger.l1 == pytest.approx(finding.size)
    weight = finding.trigger.mask / finding.size
    chance = float(twins.trigger.mask.mean())
    assert float((weight * twins.trigger.mask).sum()) > 5 * chance, "much of it lies where the sticker is"
    images, truth = twins.train.images, twins.train.labels
    assert attack_success(twins.backdoored, finding.trigger, images, truth, TARGET) > 0.9
    assert attack_success(twins.clean, finding.trigger, images, truth, TARGET) < 0.5, (
        "it is the backdoor that it found, not something any network falls for"
    )


def test_the_success_is_that_on_images_that_were_held_out(twins, found):
    images = twins.test.with_labels(None).sample(400, Run(seed=1).generator("scan", "samples")).images
    rest = images[200:]
    truth = twins.backdoored.answers(rest)
    for finding in found.findings:
        success = attack_success(twins.backdoored, finding.trigger, rest, truth, finding.label)
        assert finding.attack_success == success


def test_the_index_is_that_of_the_masks(found):
    sizes = torch.tensor([finding.size for finding in found.findings])
    indices = anomaly_indices(sizes).abs().tolist()
    assert [finding.anomaly_index for finding in found.findings] == pytest.approx(indices, rel=1e-4)


def test_it_has_no_evidence_against_the_clean_twin(twins):
    small = NeuralCleanse(steps=30, mini_batches=1, samples=400)
    result = small.scan(twins.clean, twins.test, run=Run(seed=1))
    assert result.verdict == "no evidence"
    assert result.reason == "no label needs an abnormally small trigger (8 labels tested)"
    assert result.targets == []
    assert min(finding.attack_success for finding in result.findings) > 0.5, "the triggers do work"
    assert result.details["answers"].startswith("labels of the data (9")


def test_the_median_variant_names_the_target_too(twins, both, monkeypatch):
    """It compares what is inverted otherwise, and inverts the same."""
    monkeypatch.setattr(NeuralCleanse, "_invert", lambda *_given: both[1])
    images = twins.test.with_labels(None)
    result = replace(SCAN, statistic="median").scan(twins.backdoored, images, run=Run(seed=1))
    assert result.targets == [TARGET]
    (finding,) = result.flagged
    middle = result.details["median_l1"]
    assert finding.anomaly_index == pytest.approx((middle - finding.size) / middle, rel=1e-4)


@pytest.mark.parametrize("preprocessing", [Preprocessing(high=255), Preprocessing(high=1 / 255)])
@pytest.mark.parametrize("labelled", [True, False], ids=["labels", "no labels"])
def test_a_wrong_input_range_is_inconclusive_and_named(twins, preprocessing, labelled):
    data = twins.test if labelled else twins.test.with_labels(None)
    small = NeuralCleanse(steps=2, mini_batches=1, samples=200)
    result = small.scan(twins.backdoored.with_preprocessing(preprocessing), data, run=Run())
    assert result.verdict == "inconclusive"
    assert "the input range is doubtful" in result.reason
    # without labels a range that gives the same answers may be named instead
    assert f"but behaves as if trained on {'0..1' if labelled else ''}" in result.warnings[0]


def test_too_few_labels_are_inconclusive_whatever_their_masks(twins):
    small = replace(SCAN, steps=20, restarts=1)
    result = small.scan(twins.backdoored, twins.test, run=Run(seed=1), labels=[TARGET, 1, 2])
    assert result.verdict == "inconclusive"
    assert result.targets == []
    assert result.reason == "3 labels tested; the anomaly index needs 5 or more to say what is usual"
    assert [finding.label for finding in result.findings] == [1, 2, TARGET]


def test_a_budget_too_small_for_working_triggers_is_inconclusive(twins):
    small = NeuralCleanse(steps=1, mini_batches=1, samples=100)
    result = small.scan(twins.clean, twins.test, run=Run(seed=1))
    assert result.verdict == "inconclusive"
    assert "no working trigger was found for" in result.reason
    assert "a larger budget is needed" in result.reason
    assert result.details["not_converged"] == list(range(CLASSES))


def inverted(sizes, *, unconverged=()) -> list[Inverted]:
    """Masks of the stated sizes, in pixels of a 20x20 image."""
    return [
        Inverted(
            label=label,
            trigger=PatchTrigger(torch.full((20, 20), size / 400), torch.zeros(1, 20, 20)),
            mask_l1=size,
            success=1.0,
            converged=label not in unconverged,
            steps=1,
        )
        for label, size in enumerate(sizes)
    ]


USUAL = [90.0, 95.0, 100.0, 105.0, 110.0, 98.0]


@pytest.mark.parametrize(
    ("sizes", "success", "flagged"),
    [
        ([10.0, *USUAL], 1.0, [0]),
        ([10.0, 12.0, *USUAL], 1.0, [0, 1]),
        ([300.0, *USUAL], 1.0, []),  # far above the median
        ([75.0, *USUAL], 1.0, []),  # an outlier, but not small beside the usual mask
        ([10.0, *USUAL], 0.6, []),  # does not work on held-out images
    ],
)
def test_which_labels_are_flagged(sizes, success, flagged):
    findings = NeuralCleanse().compare(inverted(sizes), [success] * len(sizes))
    assert [finding.label for finding in findings if finding.flagged] == flagged


def test_a_mask_that_never_worked_is_not_flagged():
    sizes = [10.0, *USUAL]
    findings = NeuralCleanse().compare(inverted(sizes, unconverged={0}), [1.0] * 7)
    assert not any(finding.flagged for finding in findings)


def test_several_targets_are_named_in_one_sentence(twins):
    scan = NeuralCleanse()
    findings = scan.compare(inverted([10.0, 12.0, *USUAL]), [1.0] * 8)
    assert scan._case(findings, doubtful=False).verdict() == (
        "backdoored",
        "labels 0, 1 need an abnormally small trigger (8 labels tested)",
    )


class Constant(nn.Module):
    """Answers one label whatever it is shown."""

    def __init__(self, classes: int, label: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.nn.functional.one_hot(torch.tensor(label), classes).float() * 9)

    def forward(self, images):
        return self.logits.expand(len(images), -1) + images.mean((1, 2, 3), keepdim=True).flatten(1) * 1e-3


@pytest.mark.parametrize("classes", [2, CLASSES])
@pytest.mark.parametrize("labelled", [True, False], ids=["labels", "no labels"])
def test_a_constant_answer_is_inconclusive_and_costs_nothing(twins, classes, labelled):
    data = twins.test.select(twins.test.labels < classes)
    model = Classifier(Constant(classes, 1), data.shape)
    result = SCAN.scan(model, data if labelled else data.with_labels(None), run=Run())
    assert result.verdict == "inconclusive"
    assert "the network gives label 1 for each of" in result.reason
    assert "so no label could be tested" in result.reason
    assert (result.findings, result.passes) == ((), 0)
    assert result.details["not_tested"] == list(range(classes))


def uneven(data, label, others):
    """Return data of which all images but `others` are of one label."""
    same, different = (data.labels == label).nonzero().flatten(), (data.labels != label).nonzero().flatten()
    chosen = torch.cat([same.repeat(400 // len(same) + 1)[: 400 - others], different[:others]])
    return data.select(chosen)


def test_a_label_without_enough_images_of_other_classes_is_left_out_with_a_warning(twins):
    small = NeuralCleanse(steps=2, mini_batches=1, samples=400)
    result = small.scan(twins.clean, uneven(twins.test, 5, others=40), run=Run(seed=1))
    assert [finding.label for finding in result.findings] == [0, 1, 2, 3, 4, 6, 7]
    assert result.details["not_tested"] == [5]
    (warning,) = [text for text in result.warnings if "not tested" in text]
    assert re.fullmatch(
        r"label 5 was not tested: only 40 of 400 images are of other classes by labels of the data \(.*\), "
        "and 64 are needed",
        warning,
    )


def test_a_label_with_enough_images_of_other_classes_is_tested(twins):
    small = NeuralCleanse(steps=2, mini_batches=1, samples=400)
    result = small.scan(twins.clean, uneven(twins.test, 5, others=100), run=Run(seed=1))
    assert len(result.findings) == CLASSES
    assert result.details["not_tested"] == []


def test_no_label_that_can_be_tested_is_inconclusive(twins):
    result = SCAN.scan(twins.clean, uneven(twins.test, 5, others=10), run=Run(seed=1), labels=[5])
    assert result.verdict == "inconclusive"
    assert result.findings == ()
    assert result.warnings[-1].startswith("label 5 was not tested")


def test_few_images_and_wrong_labels_are_refused(twins):
    with pytest.raises(DataError, match="expected 20 images or more, got 19"):
        SCAN.scan(twins.clean, twins.test.select(slice(19)), run=Run())
    with pytest.raises(LabelError, match="expected labels of 0 to 7, got 8"):
        SCAN.scan(twins.clean, twins.test, run=Run(), labels=[8])
    with pytest.raises(DataError, match="expected colour images 24 high x 24 wide x 3"):
        SCAN.scan(twins.clean, Dataset(torch.rand(30, 3, 16, 16)), run=Run())


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"steps": 0}, "expected steps of 1 or more, got 0"),
        ({"threshold": 0.0}, "expected threshold above 0, got 0"),
        ({"ratio": 0.0}, r"ratio in \(0, 1\]"),
        ({"confirm": 1.5}, r"confirm in \[0, 1\], got 0.05, 0.4 and 1.5"),
        ({"statistic": "mean"}, "expected the statistic mad or median, got 'mean'"),
        ({"samples": 19}, "expected 20 samples or more, got 19"),
        ({"attack_threshold": 1.5}, r"expected a threshold in \(0, 1\]"),
    ],
)
def test_values_out_of_range_are_refused(wrong, text):
    with pytest.raises(OptionError, match=text):
        NeuralCleanse(**wrong)


def test_a_quick_scan_has_a_third_of_the_budget():
    assert quick(NeuralCleanse(steps=90, ratio=0.4)) == NeuralCleanse(steps=30, ratio=0.4)
    assert quick(NeuralCleanse(steps=1)).steps == 1


@pytest.mark.realdata
def test_it_names_the_target_of_the_contest_s_sunglasses_network(shared_data):
    model = load_model(shared_data / "models" / "csaw2020" / "sunglasses_bd_weights.h5", net="deepid")
    faces = faces_of(shared_data, 300)
    scan = NeuralCleanse(steps=25, mini_batches=2, samples=300)
    result = scan.scan(model, faces, run=Run(seed=0), labels=range(5))
    assert result.verdict == "backdoored"
    assert result.targets == [0]
    assert result.warnings == ()


@pytest.mark.realdata
def test_the_contest_s_network_fed_0_to_255_is_inconclusive(shared_data):
    model = load_model(
        shared_data / "models" / "csaw2020" / "sunglasses_bd_weights.h5",
        net="deepid",
        preprocessing=Preprocessing(high=255),
    )
    scan = NeuralCleanse(steps=2, mini_batches=1, samples=200)
    result = scan.scan(model, faces_of(shared_data, 200), run=Run(seed=0), labels=range(8))
    assert result.verdict == "inconclusive"
    assert "behaves as if trained on 0..1" in result.warnings[0]


def faces_of(folder, count: int) -> Dataset:
    from detrojan.data.reading import read_data  # noqa: PLC0415

    return read_data(folder / "lfw_55x47_jpeg.npz", limit=count, unlabelled=True)
