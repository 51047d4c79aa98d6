"""What a guarded model says of a batch."""

import torch

from detrojan.errors import NonFiniteError
from detrojan.serve.judged import judge


class Overflowing:
    """A guard whose model has no numbers for white images."""

    def __init__(self):
        self.model, self.num_classes, self.asked = self, 3, 0

    def _numbers(self, images):
        self.asked += 1
        if bool((images > 0.9).any()):
            raise NonFiniteError("expected finite scores")
        return images.flatten(1).mean(1).double()

    def score(self, images):
        return self._numbers(images)

    def probabilities(self, images):
        return self._numbers(images)[:, None].expand(-1, 3).float()

    def suspicious(self, scores):
        return (scores > 0.5) | ~scores.isfinite()


def test_the_images_without_numbers_are_found_by_halves():
    images = torch.linspace(0, 0.4, 32)[:, None, None, None].repeat(1, 1, 2, 2)
    images[19] = 1.0
    guard = Overflowing()
    found = judge(guard, images)
    assert found.rejected.tolist() == [place == 19 for place in range(32)]
    assert found.reasons[19] == "overflow"
    others = torch.arange(32) != 19
    assert torch.equal(found.scores[others], images.flatten(1).mean(1).double()[others])
    assert guard.asked <= 2 * 5 + 6, (
        "each half is asked once: about the scores, and where there are any, the rest"
    )
