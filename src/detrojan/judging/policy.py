"""The constants that the default scan judges by, each with a word on what set it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeVar

#: what can set a constant: a measurement, a publication, the time it takes, or judgement alone
SetBy = Literal["measured", "published", "cost", "judgement"]
Value = TypeVar("Value")


def _set(value: Value, by: SetBy, why: str) -> Value:
    """Return a field with this default, and what set it."""
    made: Value = field(default=value, metadata={"set_by": by, "why": why})
    return made


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What the default scan takes for granted; its hyper-parameters are not in here.

    Attributes:
        effective: as how many independent tests the three statistics of a label count.
        correlation: of the ranks in the probes and of those of the sizes, on labels without a backdoor.
        forms_correlation: of the logarithms of the two forms' sizes there.
        clear_chance: a finding with a p-value of at least this, ...
        clear_ratio: ... and with more than this share of the usual size, is doubtful: the features that it
            moves may speak against it.
        ordinary: a finding is ordinary if its alignment lies above that of this share of the usual labels.
        fewest_alignments: fewer usual labels than this do not show how features move by nature.
        second_look: share of the labels that the second, more careful screening looks at.
        strong: length of the first screening's changes, in the images' units per pixel.
        faint: that of the second one's.
        faint_steps: updates of the second screening's changes.
        faint_images: images for each label of the second screening.
        strange: images that the attractor probe is shown.
        turns: in which order the probes hand in labels for the shortlist.
        fewest_for_tail: fewer labels than this do not show the tail of the probes' scores.
        most_shifts: how many shifts of all labels are compared; the first is y + 1.
        window_lead: few labels are searched from windows where the smallest loss there is at most this share
            of theirs.
        shift_lead: shifts are searched where the smallest loss in a window is at most this share of theirs.
        shift_steps: updates of each all-to-all patch.
        shift_goal: share of a batch that it must move.
        usual_odds: a shift's odds above this share of the median are usual.
        confirm_shift: share of held-out images that a flagged all-to-all trigger must move.
        most_pair_labels: up to this many labels, all pairs of them are searched.
        fewest_of_source: a source with fewer images, searching or held out, is left out.
        fewest_sources: with fewer sources than this no pair is searched.
        pair_strength: length of the changes that pairs are screened with, in the images' units per pixel.
        pair_screen_steps: updates of these changes.
        pair_screen_images: images of the source for each of them.
        pair_lead: pairs are searched where the first one is ahead of all others by so many spreads, ...
        pair_deviation: ... or where the first one stands out by so many from its source, target and reverse.
        pair_steps: updates of each pair's first patch.
        pair_batch: images per update there.
        finalists: the pairs that are searched again with more care.
        again_steps: updates of their patches.
        again_batch: images per update there.
        again_goal: share of a batch that they must move.
        polishes: how often medians of rows and columns are taken out of the pairs' sizes.
        mutual: how much of a pair's likeness goes both ways (a truck for a car, a car for a truck).
        pair_prior: standard deviation of usual pairs' residuals, with which a network's own is averaged.
        pair_freedom: degrees of freedom of the t-distribution that the residuals' tail is taken for.
        pair_ratio: a flagged pair's residual is at most this share of the usual one.
        confirm_pair: share of held-out images that a flagged source-specific trigger must move.
        transform_steps: updates of each label's warp and filter.
        transform_batch: images per update there.
        transform_spread: standard deviation of labels' scores under them, with which a network's own is
            averaged.
        transform_favour: standard deviation of how much higher the score of a label is that is answered
            e times as often as others.
        mixed_images: pairs of images for each pair of classes that are mixed.
        mixed_pairs: so many pairs of classes count for a label, those whose mixes are answered so most often.
        mixed_spread: standard deviation of the logarithm of labels' odds there, with which a network's own is
            averaged.
        least_agreement: share of unseen images that a reference network must answer as the network does.
        private_patch: mean and standard deviation of the logarithm of how many times larger a patch is that
            a reference does not know, of networks without a backdoor.
        private_additive: the same, for additive changes.
        private_correlation: of the two.
        private_freedom: degrees of freedom of the t-distribution that it is compared with.
        private_ratio: a flagged trigger that a reference does not know is at most so many times as large.
        private_suspect: a p-value below this makes a label suspect that is not flagged.
        suspect_chance: a p-value below this, ...
        suspect_ratio: ... and at most this share of the usual size make a label that is not flagged suspect.

    """

    effective: float = _set(
        1.5,
        "published",
        "(sum of square roots)^2 / sum of the eigenvalues of their correlations, 0.8 between the forms and "
        "0.95 of each with both (Galwey, Genetic Epidemiology 2009)",
    )
    correlation: float = _set(
        0.55,
        "measured",
        "0.52 over 80 control labels of four face networks with a thousand labels, 0.2 to 0.8 on single ones",
    )
    forms_correlation: float = _set(0.8, "measured", "0.7 to 0.9 on those networks")

    clear_chance: float = _set(0.001, "judgement", "as where a look at a search under way decides")
    clear_ratio: float = _set(0.35, "measured", "targets: up to 0.33; clean networks: 0.37 and more")
    ordinary: float = _set(0.25, "measured", "targets lie below all others, natural ones in the middle")
    fewest_alignments: int = _set(5, "judgement", "as for the sizes")

    second_look: float = _set(0.15, "cost", "the careful look is too dear for all labels")
    strong: float = _set(0.15, "cost", "a strong change is found in fewer steps")
    faint: float = _set(0.07, "judgement", "a fainter change tells more of a label")
    faint_steps: int = _set(6, "cost", "the screening is to take seconds")
    faint_images: int = _set(8, "cost", "the screening is to take seconds")
    strange: int = _set(700, "cost", "half of what the attractor scan is shown")
    turns: tuple[str, ...] = _set(
        ("together", "second_look", "head_rows", "together", "latent_margin", "attractor"),
        "judgement",
        "all probes together have the most to say, and each may be blind to a backdoor",
    )
    fewest_for_tail: int = _set(50, "judgement", "ranks of few labels cannot be rare")

    most_shifts: int = _set(16, "cost", "one search for each; y + 1 is the shift of the literature")
    window_lead: float = _set(0.25, "measured", "clean networks: 0.55 and more; targets: below 0.1")
    shift_lead: float = _set(0.5, "measured", "clean networks: 0.53 to 0.72; all to all: below 0.01")
    shift_steps: int = _set(60, "cost", "all shifts are searched side by side")
    shift_goal: float = _set(0.8, "judgement", "an all-to-all trigger fails on some labels")
    usual_odds: float = _set(0.4, "judgement", "as the ratio of the sizes")
    confirm_shift: float = _set(0.4, "judgement", "chance moves 1 / K of the images")

    most_pair_labels: int = _set(12, "cost", "pairs grow with the square of the labels")
    fewest_of_source: int = _set(6, "judgement", "a trigger found on fewer images says little")
    fewest_sources: int = _set(4, "judgement", "medians of rows and columns need a few of each")
    pair_strength: float = _set(0.04, "judgement", "natural pairs do not give way to so faint a change")
    pair_screen_steps: int = _set(8, "cost", "a tenth of what it takes to search all pairs")
    pair_screen_images: int = _set(8, "cost", "a tenth of what it takes to search all pairs")
    pair_lead: float = _set(0.9, "measured", "clean networks: up to 0.5; one source's backdoor: 1.2 to 2.1")
    pair_deviation: float = _set(4.0, "measured", "clean networks: up to 3.7; such a backdoor: 4.4 and 4.7")
    pair_steps: int = _set(40, "cost", "132 pairs of 12 labels")
    pair_batch: int = _set(8, "cost", "132 pairs of 12 labels")
    finalists: int = _set(8, "cost", "more care only for those that may be flagged")
    again_steps: int = _set(60, "judgement", "more than at first")
    again_batch: int = _set(16, "judgement", "more than at first")
    again_goal: float = _set(0.95, "judgement", "the trigger is to work on images that it has not seen")
    polishes: int = _set(6, "judgement", "rounds of the median polish; not measured")
    mutual: float = _set(0.7, "judgement", "likeness goes both ways, a backdoor does not")
    pair_prior: float = _set(0.2, "measured", "clean networks of three data sets: 0.12 to 0.22")
    pair_freedom: int = _set(5, "measured", "the residuals' tail is heavier than a normal one")
    pair_ratio: float = _set(0.3, "measured", "alike classes come to 0.4 without a backdoor")
    confirm_pair: float = _set(0.6, "judgement", "a source has few held-out images")

    transform_steps: int = _set(
        24, "measured", "40 updates of 16 images say no more of the networks that chose"
    )
    transform_batch: int = _set(12, "measured", "see there")
    transform_spread: float = _set(0.15, "measured", "labels without a backdoor: 0.03 to 0.2")
    transform_favour: float = _set(
        0.8, "measured", "a clean network of nineteen people: 0.8 for the one of whom it saw most images"
    )
    mixed_images: int = _set(16, "cost", "seconds for ten labels")
    mixed_pairs: int = _set(5, "judgement", "one pair alone may be alike by nature")
    mixed_spread: float = _set(0.5, "measured", "labels without a backdoor: 0.33 to 0.65")

    least_agreement: float = _set(0.9, "measured", "those that set the usual values reached 0.92 and more")
    private_patch: tuple[float, float] = _set((1.0, 0.33), "measured", "18 labels of 8 clean networks")
    private_additive: tuple[float, float] = _set((0.96, 0.24), "measured", "15 labels of those networks")
    private_correlation: float = _set(0.3, "judgement", "0.1 on those networks, which are few")
    private_freedom: int = _set(14, "measured", "the labels that were measured, less one")
    private_ratio: float = _set(
        1.35, "measured", "four targets: 0.9 to 1.2; 18 labels of clean networks: 1.5 up"
    )
    private_suspect: float = _set(0.1, "judgement", 'no proof, but too odd for "no evidence"')

    suspect_chance: float = _set(0.5, "judgement", 'no proof, but too odd for "no evidence"')
    suspect_ratio: float = _set(0.35, "judgement", "below the ratio at which a label may be flagged")

    def facts(self) -> dict[str, Any]:
        """Return the constants as plain values, for a report's record."""
        return asdict(self)

    @classmethod
    def reasons(cls) -> dict[str, tuple[SetBy, str]]:
        """Return by constant what set it, and why."""
        return {one.name: (one.metadata["set_by"], one.metadata["why"]) for one in fields(cls)}


#: the one that holds
POLICY = Policy()
