"""Where in an image its answer sits: a small region that takes the answer along, found by asking alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from detrojan.models.classifier import Classifier

#: edges of the windows that are tried first, as shares of the image's shorter side
SIZES = (0.125, 0.1875, 0.25, 0.375, 0.5)
#: other images per window: where all windows are tried, and where the best ones are looked at
FEW, MANY = 2, 8
#: windows of each size that are looked at closely
BEST = 4
#: how often a region's edges are moved by one length at most
MOVES = 24
#: the share of replacements that must bring another answer
REMOVED = 0.5
#: asked in one go, so that copies of large images fit into memory
_AT_ONCE = 64

#: top, left, bottom, right; the latter two excluded
Box = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class Region:
    """A rectangle of an image that its answer depends on.

    Attributes:
        top: its first row.
        left: its first column.
        height: in pixels.
        width: in pixels.
        label: the answer to the image.
        without: the most frequent other answer where the region is replaced.
        removed: share of the replacements that bring another answer, 0 to 1.
        carried: share of other clean images that get the image's answer where this region is pasted into
            them, 0 to 1; None where none were given. A trigger carries its label along, a thing often
            does not.

    """

    top: int
    left: int
    height: int
    width: int
    label: int
    without: int
    removed: float
    carried: float | None


def find_region(model: Classifier, image: torch.Tensor, others: torch.Tensor) -> Region | None:
    """Return the region of an image that takes its answer along, or None where no part of it does.

    Windows of several sizes are replaced by the same place of other clean images, and pasted into these. The
    best window is the one whose removal changes the answer and whose pasting brings it, with a slight
    preference for small ones. Then its edges are moved while it gets better. Without other images the
    replacement is the image's own mean colour and its blur, and nothing is pasted.

    A trigger that covers the whole image gives no region, and neither does an answer that rests on much of
    it. The search takes some thousand answers.

    Args:
        model: what answers.
        image: (C, H, W) in [0, 1].
        others: clean images (M, C, H, W) in [0, 1], as many as there are; maybe none.

    Raises:
        DataError: images of another shape than the network's.

    """
    model.check(image[None])
    label = int(model.answers(image[None]))
    search = _Search(model, image.cpu(), label, _other_answers(model, others.cpu(), label))
    boxes = _windows(image.shape[1], image.shape[2])
    best = _best_of_each_size(boxes, search.values(boxes, FEW).tolist())
    closer = search.values(best, MANY)
    box = search.improved(best[int(closer.argmax())], float(closer.max()))
    return search.region(box)


def _other_answers(model: Classifier, others: torch.Tensor, label: int) -> torch.Tensor:
    """Return clean images that are answered otherwise, or all where too few are."""
    if not len(others):
        return others
    apart = others[model.answers(others) != label]
    return apart if len(apart) >= FEW else others


def _windows(height: int, width: int) -> list[Box]:
    """Return square windows of all sizes, each half an edge from the next one."""
    boxes = []
    for share in SIZES:
        edge = max(1, round(share * min(height, width)))
        rows, columns = (_starts(side, edge) for side in (height, width))
        boxes += [(top, left, top + edge, left + edge) for top in rows for left in columns]
    return boxes


def _best_of_each_size(boxes: list[Box], values: list[float]) -> list[Box]:
    """Return the best windows of each size: by few images, large ones look better than they are."""
    ranked = [box for _, box in sorted(zip(values, boxes, strict=True), reverse=True)]
    edges = sorted({bottom - top for top, _, bottom, _ in boxes})
    return [box for edge in edges for box in [one for one in ranked if one[2] - one[0] == edge][:BEST]]


def _starts(side: int, edge: int) -> list[int]:
    return sorted({*range(0, side - edge, -(-edge // 2)), side - edge})


class _Search:
    """Asks about the boxes of one image."""

    def __init__(self, model: Classifier, image: torch.Tensor, label: int, others: torch.Tensor) -> None:
        self.model, self.image, self.label, self.others = model, image, label, others
        self.fills = others if len(others) else _own_fills(image)

    def values(self, boxes: list[Box], most: int) -> torch.Tensor:
        """Return how good each box is (boxes,): as a removal and elsewhere, less its share of the image."""
        removed, carried = self.shares(boxes, most)
        areas = torch.tensor([(bottom - top) * (right - left) for top, left, bottom, right in boxes])
        whole = removed.mean(1) if carried is None else removed.mean(1) * carried.mean(1)
        return whole - areas / self.image[0].numel()

    def shares(self, boxes: list[Box], most: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the probability of other answers without each box, and of the label with it elsewhere.

        Both are (boxes, other images), float32; the second one is None without other images.
        """
        fills, others = self.fills[:most], self.others[:most]
        removed = 1 - self._asked([self._pasted(self.image, fills, box) for box in boxes])
        if not len(others):
            return removed, None
        return removed, self._asked([self._pasted(others, self.image, box) for box in boxes])

    def improved(self, box: Box, value: float) -> Box:
        """Move the edges of a box, and the box, as long as that makes it better."""
        height, width = self.image.shape[1:]
        step = max(1, min(height, width) // 16)
        while step:
            for _ in range(MOVES):
                near = [moved for moved in _moves(box, step) if _fits(moved, height, width)]
                found = self.values(near, MANY)
                if float(found.max()) <= value:
                    break
                box, value = near[int(found.argmax())], float(found.max())
            step //= 2
        return box

    def region(self, box: Box) -> Region | None:
        """Return the region with its figures, or None where the answer does not depend on it."""
        top, left, bottom, right = box
        answers = self.model.answers(self._pasted(self.image, self.fills[: 2 * MANY], box))
        apart = answers[answers != self.label]
        removed = len(apart) / len(answers)
        if removed < REMOVED:
            return None
        carried = None
        if len(self.others):
            told = self.model.answers(self._pasted(self.others[: 2 * MANY], self.image, box))
            carried = float((told == self.label).double().mean())
        return Region(
            top=top,
            left=left,
            height=bottom - top,
            width=right - left,
            label=self.label,
            without=int(apart.mode().values),
            removed=removed,
            carried=carried,
        )

    @staticmethod
    def _pasted(grounds: torch.Tensor, patches: torch.Tensor, box: Box) -> torch.Tensor:
        """Return grounds with a box of the patches; one of the two is a single image."""
        top, left, bottom, right = box
        count = max(len(part) if part.ndim == 4 else 1 for part in (grounds, patches))
        made = grounds.expand(count, *grounds.shape[-3:]).clone()
        made[:, :, top:bottom, left:right] = patches[..., top:bottom, left:right]
        return made

    def _asked(self, groups: list[torch.Tensor]) -> torch.Tensor:
        """Return the probability of the label for groups of as many images, (groups, images)."""
        parts = [
            self.model.probabilities(torch.cat(groups[start : start + _AT_ONCE]))[:, self.label]
            for start in range(0, len(groups), _AT_ONCE)
        ]
        return torch.cat(parts).reshape(len(groups), -1).nan_to_num(0)


def _moves(box: Box, step: int) -> list[Box]:
    """Return a box with one edge moved, and moved as a whole."""
    sides = [
        tuple(side + sign * step * (at == edge) for at, side in enumerate(box))
        for edge in range(4)
        for sign in (-1, 1)
    ]
    top, left, bottom, right = box
    whole = [
        (top + down, left + across, bottom + down, right + across)
        for down, across in ((step, 0), (-step, 0), (0, step), (0, -step))
    ]
    return [*sides, *whole]  # type: ignore[list-item]


def _fits(box: Box, height: int, width: int) -> bool:
    top, left, bottom, right = box
    return 0 <= top < bottom <= height and 0 <= left < right <= width


def _own_fills(image: torch.Tensor) -> torch.Tensor:
    """Return what replaces a region where there are no other images: the mean colour, and a strong blur."""
    mean = image.mean((1, 2), keepdim=True).expand_as(image)
    small = torch.nn.functional.interpolate(image[None], size=(2, 2), mode="area")
    blurred = torch.nn.functional.interpolate(
        small, size=image.shape[1:], mode="bilinear", align_corners=False
    )
    return torch.cat([mean[None], blurred])
