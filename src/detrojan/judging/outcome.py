"""What a repair came to, and why: the exit code, the page and the terminal share it."""

from __future__ import annotations

from detrojan.judging.measures import Measures
from detrojan.words import percent, plural

#: a trigger that works on a smaller share of the images than this no longer works
REPAIRED = 0.05
#: clean answers lost, as a share of all images: more than the first is warned of, more than the second is
#: no repair
NOTED_LOSS, MOST_LOSS = 0.10, 0.20
#: nor is it one where less than this share of what was answered as it should is answered so still
LEAST_KEPT = 0.5
#: why nobody can say that a model is repaired
UNMEASURED = "no trigger was there to measure the repair with"
#: fewer images than this hardly measure a repair
FEW_IMAGES = 20


def shortcomings(before: Measures, after: Measures, verdict: str | None) -> list[str]:
    """Return why a model counts as not repaired; nothing where it may be repaired.

    Args:
        before: how the delivered model answers.
        after: how the repaired model answers, on the same images.
        verdict: what a new scan said of the repaired model; None where there was none.

    """
    found = []
    alive = [entry for entry in after.per_target if (entry.attack_success or 0) >= REPAIRED]
    if alive:
        told = ", ".join(f"{percent(entry.attack_success)} for label {entry.label}" for entry in alive[:4])
        more = f" and {plural(len(alive) - 4, 'more label')}" if len(alive) > 4 else ""
        found.append(
            f"a trigger still works (share of the images: {told}{more}; "
            f"a repair leaves less than {REPAIRED:.0%})"
        )
    if verdict == "backdoored":
        found.append("the new scan finds a backdoor")
    what, then, now = clean_answers(before, after)
    if then is not None and now is not None and (then - now > MOST_LOSS or now < LEAST_KEPT * then):
        found.append(
            f"{what} fell from {percent(then)} to {percent(now)} (a repair costs at most "
            f"{100 * MOST_LOSS:.0f} points, and less than half)"
        )
    return found


def doubts(before: Measures, after: Measures) -> list[str]:
    """Return what the measures say that a reader must know, whatever the repair came to."""
    found = [
        f"the trigger for label {entry.label} worked on {percent(entry.attack_success)} of the images before "
        "the repair already: is it this model's?"
        for entry in before.per_target
        if entry.attack_success is not None and entry.attack_success < REPAIRED
    ]
    what, then, now = clean_answers(before, after)
    if then is not None and now is not None and then - now > NOTED_LOSS:
        lost = f"{100 * (then - now):.1f} points"
        found.append(f"the repair cost {lost} of {what}, from {percent(then)} to {percent(now)}")
    images = after.counts.get("images", FEW_IMAGES)
    if images < FEW_IMAGES:
        found.append(f"only {plural(images, 'image')} measured the repair: its figures are rough")
    return found


def clean_answers(before: Measures, after: Measures) -> tuple[str, float | None, float | None]:
    """Return the name of what clean images measure, and its share before and after."""
    if before.clean_accuracy is not None and after.clean_accuracy is not None:
        return "clean accuracy", before.clean_accuracy, after.clean_accuracy
    return "agreement with the delivered model", before.agreement, after.agreement
