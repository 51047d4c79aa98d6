"""Pictures of what a guard, a trainer or a filter measured, as PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

#: told apart by people who do not see all colours, and in print
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


@contextmanager
def _figure(width: float = 6.4, height: float = 3.6) -> Iterator[tuple[Any, io.BytesIO]]:
    """Give axes to draw on, and the stream that holds the PNG after the body."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - only those who draw need it
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes, stream = figure.add_subplot(), io.BytesIO()
    axes.spines[["top", "right"]].set_visible(False)
    yield axes, stream
    figure.savefig(stream, format="png", dpi=120, metadata={"Software": None})


def histogram(
    groups: Mapping[str, torch.Tensor], *, axis: str, limit: float | None = None, limit_name: str = "boundary"
) -> bytes:
    """Return histograms of several groups over common bins, each in shares of its own group, as PNG.

    Args:
        groups: values (N,) by the group's name.
        axis: what the values are.
        limit: where a vertical line is drawn, or None.
        limit_name: what the line is.

    """
    from matplotlib.ticker import PercentFormatter  # noqa: PLC0415

    values = {name: group.double().cpu() for name, group in groups.items() if len(group)}
    ends = torch.cat([*values.values(), torch.tensor([] if limit is None else [limit]).double()])
    low, high = float(ends.min()), float(ends.max())
    bins = torch.linspace(low, high if high > low else low + 1, 41).tolist()
    with _figure() as (axes, stream):
        for colour, (name, group) in zip(COLOURS, values.items(), strict=False):
            share = [1 / len(group)] * len(group)
            axes.hist(group.tolist(), bins, weights=share, alpha=0.6, color=colour, label=_plain(name))
        if limit is not None:
            axes.axvline(limit, color="black", linestyle="--", label=f"{limit_name} {limit:.3g}")
        axes.set_xlabel(_plain(axis))
        axes.set_ylabel("share of the images")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.legend(frameon=False)
    return stream.getvalue()


def bars(groups: Mapping[str, Sequence[float]], names: Sequence[str], *, axis: str) -> bytes:
    """Return shares per class as bars, a colour per group, as PNG; only classes that occur are drawn.

    Args:
        groups: a share per class, 0 to 1, by the group's name.
        names: the classes' names.
        axis: what the classes are.

    """
    from matplotlib.ticker import PercentFormatter  # noqa: PLC0415

    most = [max(group[label] for group in groups.values()) for label in range(len(names))]
    shown = sorted(sorted(range(len(names)), key=lambda label: -most[label])[:20])
    shown = [label for label in shown if most[label] > 0]
    wide = 0.8 / max(1, len(groups))
    with _figure() as (axes, stream):
        for number, (colour, (name, group)) in enumerate(zip(COLOURS, groups.items(), strict=False)):
            places = [place + (number + 0.5) * wide - 0.4 for place in range(len(shown))]
            axes.bar(places, [group[label] for label in shown], wide, color=colour, label=_plain(name))
        axes.set_xticks(range(len(shown)), [_plain(names[label], 18) for label in shown])
        if len(shown) > 6 or any(len(names[label]) > 6 for label in shown):
            axes.tick_params(axis="x", labelrotation=60)
            for text in axes.get_xticklabels():  # else the middle of a name stands below its bars
                text.set(horizontalalignment="right", rotation_mode="anchor")
        axes.set_xlabel(_plain(axis))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.legend(frameon=False)
    return stream.getvalue()


def lines(series: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, across: str, up: str) -> bytes:
    """Return curves as PNG.

    Args:
        series: the points' x and y by the curve's name.
        across: what x is.
        up: what y is.

    """
    with _figure() as (axes, stream):
        for colour, (name, (x, y)) in zip(COLOURS, series.items(), strict=False):
            axes.plot(
                x, y, color=colour, label=_plain(name), marker="o" if len(x) < 30 else None, markersize=3
            )
        axes.set_xlabel(_plain(across))
        axes.set_ylabel(_plain(up))
        axes.legend(frameon=False)
    return stream.getvalue()


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two curves over the same points, and a place on both.

    Attributes:
        x: the points.
        solid: the first curve's values at them, shares 0 to 1.
        dashed: the second one's.
        mark: the position in `x` that is marked, or None.

    """

    x: Sequence[float]
    solid: Sequence[float]
    dashed: Sequence[float]
    mark: int | None = None


def pairs(
    groups: Mapping[str, Pair], *, across: str, solid: str, dashed: str, mark: str, title: str = ""
) -> bytes:
    """Return pairs of curves, a colour for each pair, as PNG.

    Args:
        groups: pairs by their names.
        across: what x is.
        solid: what the first curves are.
        dashed: what the second curves are.
        mark: what the marked places are.
        title: of the picture.

    """
    from matplotlib.ticker import PercentFormatter  # noqa: PLC0415

    with _figure(7.2, 4.0) as (axes, stream):
        for number, (name, pair) in enumerate(groups.items()):
            colour = COLOURS[number % len(COLOURS)]
            axes.plot(pair.x, pair.solid, color=colour, label=_plain(f"{name}: {solid}"))
            axes.plot(pair.x, pair.dashed, color=colour, linestyle="--", label=_plain(f"{name}: {dashed}"))
            if pair.mark is not None:
                at = [pair.x[pair.mark]] * 2
                axes.plot(at, [pair.solid[pair.mark], pair.dashed[pair.mark]], "o", color=colour)
        if any(pair.mark is not None for pair in groups.values()):
            axes.plot([], [], "o", color="black", label=_plain(mark))
        axes.set_ylim(-0.02, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel(_plain(across))
        axes.set_title(_plain(title, 100), fontsize="medium")
        axes.legend(frameon=False)
    return stream.getvalue()


def loss_panels(
    groups: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    breaks: Mapping[str, Sequence[int]] | None = None,
) -> bytes:
    """Return a panel for each group with the losses of poisoned and of clean samples by epoch, as PNG.

    Args:
        groups: the poisoned samples' losses and the clean ones', of one length, by the panel's name.
        breaks: after how many epochs a vertical line says that another part of the training begins, by
            the panel's name.

    """
    columns = min(5, max(1, len(groups)))
    rows = -(-len(groups) // columns)
    with _figure(max(4.0, 2.2 * columns), 0.6 + 2.0 * rows) as (axes, stream):
        figure, place = axes.figure, axes.get_subplotspec()
        axes.remove()
        below = place.subgridspec(rows, columns)
        for number, (name, (poisoned, clean)) in enumerate(groups.items()):
            panel = figure.add_subplot(below[number // columns, number % columns])
            panel.spines[["top", "right"]].set_visible(False)
            epochs = range(1, len(clean) + 1)
            # a loss of exactly 0 has no place on the logarithmic axis
            low, high = ([max(value, 1e-5) for value in values] for values in (poisoned, clean))
            panel.semilogy(epochs, low, color=COLOURS[1], label="poisoned")
            panel.semilogy(epochs, high, color=COLOURS[0], linestyle="--", label="clean")
            for end in (breaks or {}).get(name, ()):
                panel.axvline(end + 0.5, color="0.7", linewidth=0.8)
            panel.set_ylim(5e-6, 50)
            panel.set_title(_plain(name), fontsize="small")
            panel.tick_params(labelsize="x-small")
            if not number:
                panel.legend(frameon=False, fontsize="x-small")
        figure.supxlabel("epoch", fontsize="small")
        figure.supylabel("loss", fontsize="small")
    return stream.getvalue()


def _plain(text: str, longest: int = 60) -> str:
    """Return text that is drawn as it is: a dollar sign would start a formula."""
    from detrojan.words import printable  # noqa: PLC0415

    return printable(text, longest).replace("$", r"\$")
