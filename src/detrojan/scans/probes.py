"""What cheap probes say of every label: seconds for a thousand labels, no search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from detrojan.errors import ModelError
from detrojan.judging.middle import LARGE
from detrojan.judging.policy import POLICY
from detrojan.judging.preparing import Prepared
from detrojan.machine import give_memory_back
from detrojan.metrics.attraction import attraction
from detrojan.metrics.head_rows import row_clues
from detrojan.metrics.latent_margin import latent_margins
from detrojan.models.classifier import Classifier
from detrojan.run import Run
from detrojan.scans.head_rows import deviations
from detrojan.search.screen import screen

#: the probe that looks at the labels which the screening put first
SECOND_LOOK = "second_look"
#: images of each label in the screening, and where time is short; share of the labels looked at again then
IMAGES, HASTY_IMAGES, HASTY_SECOND_LOOK = 6, 3, 0.07
#: images that the other probes ask about then, and strange ones that the attractor probe makes
HASTY_ANSWERS, HASTY_STRANGE = 100, 140


@dataclass(frozen=True, kw_only=True)
class Probes:
    """The probes' scores of the labels to test.

    Attributes:
        scores: by probe, one for each label (K,), high is suspicious; -inf where it did not look.
        passes: forward+backward passes of one sample.
        skipped: probes that could not be used, with the reason.

    """

    scores: dict[str, torch.Tensor]
    passes: int = 0
    skipped: dict[str, str] = field(default_factory=dict)


def probe_scores(
    model: Classifier, ready: Prepared, *, run: Run, stop: Callable[[], bool], hasty: bool = False
) -> Probes:
    """Return the score of every label to test by every probe.

    Args:
        model: the network.
        ready: images, and the labels to test.
        run: device, seed, progress.
        stop: where it says yes, what has been scored so far counts.
        hasty: take half of the passes.

    """
    images, truth = ready.search
    labels, skipped = ready.tested, dict[str, str]()
    coarse = screen(
        model,
        images,
        truth,
        labels,
        run=run,
        strength=POLICY.strong,
        images_each=HASTY_IMAGES if hasty else IMAGES,
        title="screening",
        stop=stop,
    )
    share = HASTY_SECOND_LOOK if hasty else POLICY.second_look
    scores = {"screening": coarse.margins}
    kept = coarse.margins.argsort(descending=True, stable=True)
    kept = kept[: max(1, round(share * len(labels)))].sort().values
    fine = screen(
        model,
        images,
        truth,
        [labels[place] for place in kept.tolist()],
        run=run.within("fine"),
        strength=POLICY.faint,
        steps=POLICY.faint_steps,
        images_each=POLICY.faint_images,
        title="second look",
        stop=stop,
    )
    scores[SECOND_LOOK] = torch.full_like(coarse.margins, -torch.inf).index_copy(0, kept, fine.margins)
    images = images[:HASTY_ANSWERS] if hasty else images
    if min(model.input_shape[1:]) > LARGE:  # the passes of the screening would be held beside the answers
        give_memory_back()
    for name, probe in OF_THE_HEAD.items():
        try:
            scores[name] = probe(model, images)[labels]
        except ModelError as error:
            skipped[name] = str(error)
    if not stop():
        strange = HASTY_STRANGE if hasty else POLICY.strange
        found = attraction(model, images, run.generator("attractor"), count=strange)
        scores["attractor"] = found.score[labels]
    return Probes(scores=scores, passes=coarse.passes + fine.passes, skipped=skipped)


def _rows(model: Classifier, images: torch.Tensor) -> torch.Tensor:
    """Return how far each label's row of the last layer stands apart (K,)."""
    del images
    return deviations(row_clues(model.head_weights()[0])).mean(0)


#: probes that look at the last layer
OF_THE_HEAD = {"latent_margin": latent_margins, "head_rows": _rows}
