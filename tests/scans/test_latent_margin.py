from __future__ import annotations

import pytest
import torch
from torch import nn

from detrojan.errors import ModelError, OptionError
from detrojan.models.classifier import Classifier
from detrojan.models.preprocessing import Preprocessing
from detrojan.run import Run
from detrojan.scans.latent_margin import LatentMargin
from twins import CLASSES, SHAPE, TARGET


@pytest.mark.parametrize("seed", [1, 2])
def test_it_names_the_target_and_only_it(twins, seed):
    result = LatentMargin().scan(twins.backdoored, twins.test.with_labels(None), run=Run(seed=seed))
    assert (result.verdict, result.targets) == ("backdoored", [TARGET])
    assert (
        result.reason
        == f"label {TARGET} has an abnormally high margin in the last layer's features (8 labels tested)"
    )
    (finding,) = result.flagged
    assert finding.p_value < 0.01
    assert finding.size is None
    assert finding.trigger is None
    assert result.passes == 0


@pytest.mark.parametrize("seed", [1, 2])
def test_it_has_no_evidence_against_the_clean_twin_and_says_what_it_would_have_seen(twins, seed):
    result = LatentMargin().scan(twins.clean, twins.test, run=Run(seed=seed))
    assert (result.verdict, result.targets) == ("no evidence", [])
    scores = list(result.details["scores"].values())
    assert result.details["detectable_from"] > max(scores)
    assert f"{result.details['detectable_from']:.3g} or more would have been one" in result.reason


def test_the_p_values_do_not_depend_on_the_labels_that_are_asked_for(twins):
    every = LatentMargin().scan(twins.backdoored, twins.test, run=Run(seed=1))
    some = LatentMargin().scan(twins.backdoored, twins.test, run=Run(seed=1), labels=[0, TARGET])
    assert [f.p_value for f in some.findings] == [every.findings[0].p_value, every.findings[TARGET].p_value]


def test_a_wrong_input_range_is_inconclusive(twins):
    model = twins.backdoored.with_preprocessing(Preprocessing(high=255))
    result = LatentMargin().scan(model, twins.test, run=Run())
    assert result.verdict == "inconclusive"
    assert "the input range is doubtful" in result.reason


def test_a_network_without_a_last_linear_layer_is_refused(twins):
    network = nn.Sequential(nn.Conv2d(3, CLASSES, SHAPE[-1]), nn.Flatten())
    with torch.no_grad():
        network[0].weight.normal_(generator=torch.Generator().manual_seed(0))
    model = Classifier(network, SHAPE)
    with pytest.raises(ModelError, match="expected a network that ends in a linear layer"):
        LatentMargin().scan(model, twins.test, run=Run())


def test_values_out_of_range_are_refused():
    with pytest.raises(OptionError, match=r"expected a quantile in \(0.5, 1\], got 0.5"):
        LatentMargin(quantile=0.5)
    with pytest.raises(OptionError, match="expected steps of 1 or more, got 0"):
        LatentMargin(steps=0)
    with pytest.raises(OptionError, match=r"expected significance in \(0, 1\), got 0"):
        LatentMargin(significance=0.0)
    with pytest.raises(OptionError, match="expected 20 samples or more, got 19"):
        LatentMargin(samples=19)
