from __future__ import annotations

import numpy as np
import pytest
import torch

from detrojan.guards.boundary import fitted


def test_the_boundaries_are_those_of_the_curve_and_of_the_count():
    values = 3 + 0.5 * torch.randn(4000, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    fit = fitted(values, 0.01, "auto")
    assert fit.normal == pytest.approx(float(values.mean()) - 2.3263 * float(values.std()), abs=1e-3)
    assert fit.quantile == pytest.approx(sorted(values.tolist())[40], abs=0.02)
    assert (fit.used, fit.complaint) == ("normal", "")
    assert fit.distance < 0.03


def test_a_poor_fit_is_told_and_counting_stands_in():
    chance = torch.Generator().manual_seed(2)
    values = torch.rand(2000, generator=chance, dtype=torch.float64) ** 3
    fit = fitted(values, 0.01, "auto")
    assert fit.complaint == f"its boundary of {fit.normal:.3f} bits would reject nothing"
    assert fit.used == "quantile"
    assert fitted(values, 0.01, "normal").used == "normal"
    split = torch.cat([values[:100] + 1, values[100:] * 0.01 + 3])
    assert "of them instead of 1.00%" in fitted(split, 0.01, "auto").complaint
    assert float((split <= fitted(split, 0.01, "auto").quantile).double().mean()) == pytest.approx(
        0.01, abs=0.002
    )


def test_skewed_entropies_are_counted_even_where_the_tail_looks_right():
    # as on traffic signs: hardly any clean input lies below the curve's boundary, but some would
    draws = np.random.default_rng(2).gamma(20, 0.05, 40000)
    values = torch.from_numpy(draws)
    sample, rest = values[:400], values[400:]
    fit = fitted(sample, 0.01, "auto")
    assert fit.rejected < 0.01
    assert 0 < fit.normal < fit.quantile
    assert fit.complaint.startswith("the entropies have the longer tail above their mean (skewness 0.")
    assert fit.used == "quantile"
    below = [float((rest <= boundary).double().mean()) for boundary in (fit.normal, fit.quantile)]
    assert below[0] < 0.005 < below[1] < 0.02
    assert "below their mean" in fitted(4 - sample, 0.02, "auto").complaint
