"""The page of a guard: how its scores spread, where its boundary lies, and how good that is."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from detrojan.guards.base import Calibrated
from detrojan.guards.boundary import Fit
from detrojan.guards.strip import CalibratedStrip, Strip
from detrojan.judging.outcome import REPAIRED
from detrojan.metrics.detection import Detection
from detrojan.report.charts import NARROW, WIDE
from detrojan.report.commands import option_value
from detrojan.report.histogram_chart import BARS, histogram_chart
from detrojan.report.html_page import filled, render_page
from detrojan.report.pictures import TriggerPictures, picture_values
from detrojan.report.schema import AdviceFacts, RunFacts
from detrojan.words import MINUS, label_name, percent, printable, sentence

_BOUND = "The boundary holds for this network, its preprocessing and inputs like those it was set on."
_PASSED = "That an input passes does not mean that it is clean: nothing about it was noticed."


@dataclass(frozen=True, kw_only=True)
class Measured:
    """How a guard did with a known trigger.

    Attributes:
        detection: its rates.
        target: the label that the trigger leads to, or None where nobody said.
        success: share of the stamped inputs that are answered with the target, 0 to 1, or None.
        success_guarded: share of them that are answered with it and pass the guard, 0 to 1, or None.

    """

    detection: Detection
    target: int | None = None
    success: float | None = None
    success_guarded: float | None = None


def guard_page(
    guard: Calibrated,
    scores: Mapping[str, torch.Tensor],
    *,
    record: Sequence[tuple[str, str]],
    facts: RunFacts,
    warnings: Sequence[str] = (),
    measured: Measured | None = None,
    pictures: TriggerPictures | None = None,
) -> str:
    """Return one self-contained page.

    Args:
        guard: calibrated.
        scores: of the inputs that are shown, (N,) each, by what they are, clean ones first.
        record: what is in the table of inputs and settings.
        facts: of the run.
        warnings: what the owner must know.
        measured: how the guard did with a known trigger, or None.
        pictures: of that trigger, or None.

    """
    finite = {name: values[values.isfinite()] for name, values in scores.items()}
    shown = {name: (values * guard.sign).tolist() for name, values in finite.items() if len(values)}
    fit = guard.fit if isinstance(guard, CalibratedStrip) else None
    limit, unit = guard.threshold * guard.sign, " (bits)" if fit else ""
    normal = (fit.mean, fit.std) if fit and measured is None else None
    charts = [
        histogram_chart(
            shown, limit=limit, axis=f"{guard.statistic}{unit}".capitalize(), normal=normal, width=width
        )
        for width in (WIDE, NARROW)
    ] if shown else []  # fmt: skip
    legend = [(printable(name, 40), css) for name, css in zip(shown, BARS, strict=False)]
    part = filled(
        "guard.html.jinja",
        title="Result",
        said=_said(guard, limit, " bits" if fit else "", measured),
        mood=_mood(measured),
        advice=[] if measured else [_untried(facts)],
        version=facts.versions.get("detrojan", ""),
        warnings=[sentence(printable(text, 600)) for text in warnings],
        tiles=_measured_tiles(measured, limit, guard.statistic) if measured else _tiles(guard, limit, fit),
        statistic=guard.statistic,
        charts=charts,
        legend=legend,
        normal=normal is not None,
        trigger=_trigger(pictures, guard, measured),
        fit=_fit_rows(fit) if fit else [],
        quality=_founded(guard),
        unsaid=[text for text in (_BOUND, guard.method.lets_through, _PASSED) if text],
        record=record,
    )
    verb = "Measurement" if measured else "Calibration"
    return render_page(f"{verb} of the guard {guard.method.name}", [part])


def _said(guard: Calibrated, limit: float, unit: str, measured: Measured | None) -> str:
    if measured:
        found = measured.detection
        said = (
            f"The guard catches {percent(1 - found.far)} of {found.bad:,} stamped inputs, and calls "
            f"{percent(found.frr)} of {found.clean:,} clean ones backdoored."
        )
        if measured.success is None:
            return said
        alone, guarded = percent(measured.success), percent(measured.success_guarded)
        return f"{said} Attack success {alone}, with the guard {guarded}."
    side = "at or below" if guard.sign < 0 else "at or above"
    rule = f"An input is called backdoored where its {guard.statistic} is {side} {limit:.3g}{unit}."
    return f"{rule} How many attacks this catches was not measured."


def _mood(measured: Measured | None) -> str:
    """Return the colour of the result: good where the guard leaves of the attack what a repair may leave."""
    if measured is None:
        return "plain"
    return "good" if measured.detection.far < REPAIRED else "inconclusive"


def _untried(facts: RunFacts) -> AdviceFacts:
    """Return how to find out what the guard catches."""
    folder = option_value(facts.command or [], "--out") or "GUARD"
    words = [
        "detrojan",
        "guard",
        "measure",
        folder,
        "--data",
        "DATA",
        "--trigger",
        "FILE",
        "--target",
        "LABEL",
    ]
    text = "Measure it with a trigger that you know, on images that it was not set up with:"
    return AdviceFacts(text=text, command=shlex.join(words))


def _tiles(guard: Calibrated, limit: float, fit: Fit | None) -> list[tuple[str, str, str]]:
    called = int(guard.suspicious(guard.clean_scores).sum())
    count = len(guard.clean_scores)
    tiles = [
        ("Boundary", f"{limit:.3g}", f"{guard.statistic}{', bits' if fit else ''}"),
        ("Clean inputs", f"{count:,}", "that it was set on"),
        ("Of them called backdoored", f"{called:,}", percent(called / count)),
        ("Of further clean inputs", " to ".join(map(percent, guard.supported())), "confidence 90%"),
    ]
    if fit:
        tiles.append(("Normal fit", _fit_tile(fit), f"boundary by {_used(fit)}"))
    return tiles


def _fit_tile(fit: Fit) -> str:
    return "poor" if fit.complaint else "holds at the boundary"


def _measured_tiles(measured: Measured, limit: float, statistic: str) -> list[tuple[str, str, str]]:
    found = measured.detection
    tiles = [
        ("Boundary", f"{limit:.3g}", statistic),
        ("False rejection rate", percent(found.frr), f"of {found.clean:,} clean inputs"),
        ("False acceptance rate", percent(found.far), f"of {found.bad:,} stamped inputs"),
        ("AUROC", f"{found.auroc:.4f}", "over all boundaries"),
    ]
    if measured.success is not None:
        tiles += [
            ("Attack success", percent(measured.success), "stamped inputs answered with the target"),
            ("With the guard", percent(measured.success_guarded), "answered so, and let through"),
        ]
    return tiles


def _trigger(
    pictures: TriggerPictures | None, guard: Calibrated, measured: Measured | None
) -> dict[str, Any] | None:
    """Return what the page shows of the trigger that was stamped, or None."""
    if pictures is None or measured is None:
        return None
    target = measured.target
    towards = "" if target is None else f" for label {label_name(target, guard.model.class_name(target))}"
    return {"title": f"The trigger that was stamped{towards}", "sentence": ""} | picture_values(pictures)


def _used(fit: Fit) -> str:
    return "the normal curve" if fit.used == "normal" else "counting"


def _fit_rows(fit: Fit) -> list[tuple[str, str]]:
    return [
        ("Mean", f"{fit.mean:.3g}\u00a0bits"),
        ("Standard deviation", f"{fit.std:.3g}\u00a0bits"),
        ("Boundary by the normal curve", f"{MINUS if fit.normal < 0 else ''}{abs(fit.normal):.3g}\u00a0bits"),
        ("Boundary by counting", f"{fit.quantile:.3g}\u00a0bits"),
        ("Clean inputs at or below the normal one", f"{100 * fit.rejected:.2f}%"),
        ("Largest gap to the normal distribution", f"{100 * fit.distance:.1f}\u00a0points"),
    ]


def _founded(guard: Calibrated) -> str:
    if not isinstance(guard, CalibratedStrip):
        return ""
    assert isinstance(guard.method, Strip)
    return _quality(guard.fit, guard.method.frr, len(guard.clean_scores))


def _quality(fit: Fit, frr: float, inputs: int) -> str:
    """Return what the boundary rests on: what it does to clean inputs, then how far the curve is theirs.

    Args:
        fit: where the boundary came from.
        frr: the share of clean inputs that was asked for.
        inputs: how many clean inputs it was set on.

    """
    if fit.complaint:
        return printable(f"The normal fit is poor: {fit.complaint}. The boundary is by {_used(fit)}.", 300)
    if fit.used != "normal":
        return (
            f"The boundary is by {_used(fit)}: where {100 * frr:.2f}% of the clean inputs lie at or below it."
        )
    tail = (
        f"The boundary is by {_used(fit)}: {100 * fit.rejected:.2f}% of the clean inputs lie at or below it, "
        f"{100 * frr:.2f}% were asked for; by counting it would be {fit.quantile:.3g} bits."
    )
    # what a normal sample would exceed in one case of twenty, its own mean and deviation taken (Lilliefors)
    chance = 0.886 / math.sqrt(inputs)
    gap = f"{100 * fit.distance:.1f} points"
    if fit.distance <= chance:
        return f"{tail} The curve describes the clean entropies elsewhere too (largest gap {gap})."
    return (
        f"{tail} Elsewhere the curve does not describe the clean entropies: the largest gap is {gap}, chance "
        f"makes up to {100 * chance:.1f}. Only the share at the boundary vouches for it."
    )
