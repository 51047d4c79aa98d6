"""Sequential STRIP: the decision of STRIP from as few copies as it takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise
from typing import Any

import torch

from detrojan.errors import DataError, OptionError
from detrojan.guards.base import is_finite
from detrojan.guards.betting import Bets, rounds, spreads
from detrojan.guards.strip import ACCELERATED, CalibratedStrip, Strip, entropy
from detrojan.models.classifier import BATCH

#: inputs whose copies are asked together, in batches' sizes
TOGETHER = 4
#: given rows (R,) and which of their copies, answers these copies' entropies in bits (R, stop - start)
Ask = Callable[[torch.Tensor, int, int], torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """When an input is called backdoored before all its copies were asked.

    Attributes:
        deficit: how far below the boundary the mean of some copies must be, in spreads.
        spreads: of the logarithm of such a mean, by the way of mixing and by the number of copies.
        copies: how many copies the clean inputs took on average.

    """

    deficit: float
    spreads: tuple[tuple[float, ...], ...]
    copies: float


@dataclass(frozen=True, kw_only=True)
class Decided:
    """What was found of some inputs.

    Attributes:
        entropies: the mean of the copies that were asked, in bits, (N,), float64. It lies on the side of the
            boundary that was decided for. It is NaN where an answer is no finite number.
        copies: how many copies were asked, (N,), int64.
        deficit: the most that a mean lay below the boundary before its last copy, in spreads, (N,).

    """

    entropies: torch.Tensor
    copies: torch.Tensor
    deficit: torch.Tensor


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CalibratedSequentialStrip(CalibratedStrip):
    """Sequential STRIP bound to a model.

    Attributes:
        plan: when an input is decided early.

    """

    plan: Plan

    def entropies(self, images: torch.Tensor) -> torch.Tensor:
        """Return the mean entropy of the copies that each image took, in bits (N,), float64."""
        return self.decided(images).entropies

    def decided(self, images: torch.Tensor) -> Decided:
        """Return what is found of images (N, C, H, W), and how many copies each took.

        Raises:
            DataError: images of another shape than the network's.

        """
        self.model.check(images)
        batch = BATCH if self.model.device.type == "cpu" else BATCH * ACCELERATED
        with self.model.judging(), torch.inference_mode():
            parts = [
                self._decide(len(some), self._asking(some, batch), self.plan.deficit)
                for some in _parts(images, TOGETHER * batch)
            ]
        return Decided(**{name: torch.cat([vars(part)[name] for part in parts]) for name in vars(parts[0])})

    def replayed(self, entropies: torch.Tensor, deficit: float) -> Decided:
        """Return what would be found of inputs all of whose copies (N, copies) are known."""
        inputs, sizes = len(entropies), torch.tensor(self._sizes)
        offsets = sizes.cumsum(0) - sizes

        def ask(rows: torch.Tensor, start: int, stop: int) -> torch.Tensor:
            first = offsets[rows // inputs] + start
            return entropies[(rows % inputs)[:, None], first[:, None] + torch.arange(stop - start)]

        return self._decide(inputs, ask, deficit)

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return the overlays, the fit and the plan."""
        tensors, values = super().state()
        return tensors, values | {"plan": asdict(self.plan)}

    @property
    def _sizes(self) -> list[int]:
        """How many copies are mixed in each way."""
        return [len(part) for part in self.overlays.tensor_split(self.ways)]

    def _asking(self, images: torch.Tensor, batch: int) -> Ask:
        """Return how copies of images are asked, a full batch at a time; row w * N + i is image i, way w."""
        assert isinstance(self.method, Strip)
        method, model = self.method, self.model
        overlays = self.overlays.to(model.device)
        tops = method.tops(overlays)

        def mixed(rows: torch.Tensor, start: int, stop: int) -> torch.Tensor:
            parts = []
            for way, top in enumerate(tops):
                chosen = images[rows[rows // len(images) == way] % len(images)].to(model.device)
                copies = method.ground(chosen, overlays, way)[:, None] + top[start:stop]
                parts.append(copies.flatten(0, 1))
            return torch.cat(parts)

        def ask(rows: torch.Tensor, start: int, stop: int) -> torch.Tensor:
            each = max(1, batch // (stop - start))
            parts = [entropy(model.logits(mixed(some, start, stop))).cpu() for some in _parts(rows, each)]
            return torch.cat(parts).reshape(len(rows), stop - start)

        return ask

    def _decide(self, inputs: int, ask: Ask, deficit: float) -> Decided:
        """Ask copies of `inputs` inputs, round by round, until each is decided."""
        assert isinstance(self.method, SequentialStrip)
        sizes = self._sizes
        scales = torch.tensor([1.0, self.fit.scale], dtype=torch.float64)
        usual = torch.tensor(self.plan.spreads, dtype=torch.float64)
        bets = Bets(self.boundary, torch.tensor(sizes).repeat_interleave(inputs), self.method.early_passes)
        below = torch.zeros(inputs, dtype=torch.bool)
        worst = torch.full((inputs,), -math.inf, dtype=torch.float64)
        copies = torch.zeros(inputs, dtype=torch.int64)
        live = torch.arange(len(sizes) * inputs)
        for number, (start, stop) in enumerate(pairwise([0, *rounds(sizes)])):
            if not len(live):
                break
            bets.add(live, ask(live, start, stop) * scales[live // inputs, None])
            copies.index_add_(0, live % inputs, torch.full_like(live, stop - start))
            live = live[~bets.above[live]]
            ended = bets.ended[live]
            short = bets.deficit(usual[:, number].repeat_interleave(inputs))[live]
            early = live[~ended] % inputs
            worst.scatter_reduce_(0, early, short[~ended].nan_to_num(-math.inf), "amax")
            below[live[ended | (short > deficit)] % inputs] = True
            live = live[~below[live % inputs]]
        means = bets.means.reshape(len(sizes), inputs).amin(0)
        limit = torch.tensor(self.boundary, dtype=torch.float64)
        over = torch.nextafter(limit, torch.full_like(limit, math.inf))
        found = torch.where(below, means.clamp(max=limit), means.clamp(min=over))
        return Decided(entropies=found, copies=copies, deficit=worst)


@dataclass(frozen=True, kw_only=True)
class SequentialStrip(Strip):
    """Decide as STRIP does from a few of its copies: an input is decided as soon as the first ones are clear.

    STRIP compares the mean entropy of N copies with a boundary. Here the copies are asked in rounds, a few at
    a time. After each round two tests are made, and what is decided is asked no more. Whatever is still
    undecided after all copies is decided as STRIP decides it. Inputs are judged together, so that a round's
    copies fill whole batches.

    An input passes early by a test that holds for any input: bets that the mean of all copies lies above the
    boundary are won. If STRIP rejects an input, it passes early in a share of at most `early_passes` of all
    orders of the copies. The order is drawn when the guard is set up, and is the same for all inputs, so that
    an answer can be repeated. Where half of the copies are mixed in another way, both halves must pass.

    An input is rejected early by a test that holds for clean inputs. The mean of the first copies must lie
    further below the boundary than it did, at any time, for almost all clean inputs that STRIP lets pass. The
    gap is measured in logarithms, and in units of their spread after so many copies. About a share
    `early_rejects` of `frr` more clean inputs are rejected; no less than one of those it was set on.

    What an input's answers to the other copies are is not known. So a score is minus the mean entropy of the
    copies that were asked, brought to the side of the boundary that was decided for.

    Reference: Gao et al., STRIP: A Defence Against Trojan Attacks on Deep Neural Networks,
    ACSAC 2019; the bets are those of Waudby-Smith and Ramdas, Estimating Means of Bounded Random Variables by
    Betting, JRSS B 2024.

    Args:
        early_passes: the chance at most that an input which STRIP rejects passes early, in (0, 1).
        early_rejects: how many more clean inputs may be rejected, as a share of `frr`, in (0, 1).

    """

    name = "sequential_strip"

    early_passes: float = 0.02
    early_rejects: float = 0.25

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        if not (0 < self.early_passes < 1 and 0 < self.early_rejects < 1):
            raise OptionError(
                "expected early_passes and early_rejects in (0, 1), "
                f"got {self.early_passes:g} and {self.early_rejects:g}"
            )

    def bounded(
        self, unset: CalibratedStrip, entropies: torch.Tensor, warnings: list[str]
    ) -> CalibratedSequentialStrip:
        """Return the guard with STRIP's boundary and the plan by which an input is decided early."""
        plain = super().bounded(unset, entropies, warnings)
        parts = entropies.tensor_split(plain.ways, 1)
        ends = rounds([part.shape[1] for part in parts])
        scaled = [part * scale for part, scale in zip(parts, (1.0, plain.fit.scale), strict=False)]
        apart = tuple(tuple(spreads(part, ends)) for part in scaled)
        open_end = Plan(deficit=math.inf, spreads=apart, copies=0)
        guard = CalibratedSequentialStrip(
            **{one.name: getattr(plain, one.name) for one in fields(plain)}, plan=open_end
        )
        late = guard.replayed(entropies, math.inf)
        passed = late.deficit[late.entropies > guard.boundary].sort(descending=True).values
        allowed = max(1, int(self.early_rejects * self.frr * (len(entropies) + 1)))
        deficit = max(0.0, *passed[allowed - 1 : allowed].tolist(), 0.0)
        found = guard.replayed(entropies, deficit)
        plan = replace(open_end, deficit=deficit, copies=float(found.copies.double().mean()))
        return replace(guard, clean_scores=-found.entropies, plan=plan)

    def restored(
        self, common: dict[str, Any], tensors: dict[str, torch.Tensor], values: Any
    ) -> CalibratedSequentialStrip:
        """Rebuild the guard from its files."""
        plain = super().restored(common, tensors, values)
        sizes = [len(part) for part in plain.overlays.tensor_split(plain.ways)]
        plan = _read_plan(values.get("plan"), len(sizes), len(rounds(sizes)))
        return CalibratedSequentialStrip(
            **{one.name: getattr(plain, one.name) for one in fields(plain)}, plan=plan
        )


def _parts(rows: torch.Tensor, size: int) -> list[torch.Tensor]:
    """Return rows in parts of a size, at least one."""
    return [rows[start : start + size] for start in range(0, max(1, len(rows)), size)]


def _read_plan(values: Any, ways: int, ends: int) -> Plan:
    """Return the plan that a guard's file holds.

    Raises:
        DataError: other values, or numbers that no plan has.

    """
    if not isinstance(values, dict) or set(values) != {one.name for one in fields(Plan)}:
        raise DataError(f"expected the values of a plan, got {values!r:.80}")
    table = values["spreads"]
    whole = isinstance(table, list) and len(table) == ways
    whole = whole and all(isinstance(row, list) and len(row) == ends for row in table)
    if not whole or not all(is_finite(number) and number > 0 for row in table for number in row):
        raise DataError(f"expected {ways} x {ends} spreads above 0 in the plan, got {table!r:.80}")
    for name in ("deficit", "copies"):
        if not is_finite(values[name]) or values[name] < 0:
            raise DataError(f"expected a {name} of 0 or more in the plan, got {values[name]!r:.80}")
    spread = tuple(tuple(float(number) for number in row) for row in table)
    return Plan(deficit=float(values["deficit"]), spreads=spread, copies=float(values["copies"]))
