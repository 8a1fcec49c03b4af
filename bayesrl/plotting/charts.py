"""Charts of groups of runs as self-contained SVG texts: every line carries its name, and its band is an interval."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bayesrl.metrics.bootstrap import Array, Interval
from bayesrl.plotting.canvas import COLORS, GRID, Point, Scale, axis, color
from bayesrl.plotting.svg import SVG

DASHES, LEVEL = ("", "7 4", "2 3"), "4 4"  # where there are more lines than colors; of a marked height
LEFT, TOP, WIDTH, HEIGHT = 64, 36, 380, 240  # pixels of a panel

End = tuple[str, float, float, int]  # a name, the point that it belongs to, the number of its color


class Line(NamedTuple):
    """A line and its band.

    Attributes:
        x: [K].
        y: [K], each with its interval.
        number: of its color.
    """

    x: Array
    y: Interval
    number: int


def lines(x_label: str, y_label: str, shown: Mapping[str, Line], level: tuple[float, str] | None = None) -> str:
    """Return lines with bands, named at their ends.

    Arguments:
        x_label, y_label: of the axes.
        shown: by name.
        level: a height that is marked, and what it means.
    """
    edges = np.concatenate([np.concatenate([*line.y]) for line in shown.values()])
    heights = [*edges[np.isfinite(edges)], *([level[0]] if level else [])]
    canvas, across, up = SVG(), _across(shown), Scale(*_range(heights), TOP + HEIGHT, TOP)
    _panel(canvas, across, up, x_label, y_label)
    for line in shown.values():
        _band(canvas, line, across, up)
    ends: list[End] = []
    if level:
        y = up(level[0])
        _stroke(canvas, [(LEFT, y), (LEFT + WIDTH, y)], -1)
        ends.append((level[1], LEFT + WIDTH, y, -1))
    for name, line in shown.items():
        points = [(across(x), up(y)) for x, y in zip(line.x, line.y.value, strict=True)]
        _stroke(canvas, points, line.number)
        canvas.dot(*points[-1], color(line.number))
        ends.append((name, *points[-1], line.number))
    return _chart(canvas, ends)


def profiles(x_label: str, shown: Mapping[str, Line]) -> str:
    """Return falling lines from 1 to 0, each named where it has fallen to one half."""
    canvas, across, up = SVG(), _across(shown), Scale(0, 1, TOP + HEIGHT, TOP)
    _panel(canvas, across, up, x_label, "share of seeds above it", percent=True)
    for line in shown.values():
        _band(canvas, line, across, up)
    ends = []
    for name, line in shown.items():
        points = [(across(x), up(y)) for x, y in zip(line.x, line.y.value, strict=True)]
        _stroke(canvas, points, line.number)
        fallen = next((p for p, y in zip(points, line.y.value, strict=True) if y <= 0.5), points[-1])
        ends.append((name, *fallen, line.number))
    return _chart(canvas, ends)


def strips(x_label: str, shown: Mapping[str, tuple[Array, Interval, int]]) -> str:
    """Return a row for each name: every run a faint dot, the aggregate a strong one with its interval."""
    left = 24 + 7 * max(map(len, shown))
    bottom = 34 + 44 * len(shown)
    canvas, across = SVG(), Scale(*_range([v for runs, *_ in shown.values() for v in runs]), left, left + WIDTH)
    axis(canvas, across, 22, bottom)
    canvas.text(left + WIDTH / 2, bottom + 36, x_label, anchor="ms")
    for row, (name, (runs, (value, low, high), number)) in enumerate(shown.items()):
        y = 52 + 44 * row
        canvas.text(left - 12, y, name, anchor="rs", bold=True)
        for run in runs:
            canvas.dot(across(run), y - 12, color(number), 4, opacity=0.35)
        edges = across(float(low)), across(float(high))
        canvas.line([(x, y) for x in edges], color(number), 3)
        for x in edges:
            canvas.line([(x, y - 7), (x, y + 7)], color(number), 2)
        canvas.dot(across(float(value)), y, color(number), 6)
    return canvas.render(left + WIDTH + 40, bottom + 48)


def against(x_label: str, y_label: str, shown: Mapping[str, tuple[Array, Array, int]]) -> str:
    """Return paths through a plane of equal logarithmic axes with its diagonal: predicted against observed numbers."""
    values = np.concatenate([np.concatenate([x, y]) for x, y, _ in shown.values()])
    low, high = math.floor(np.log10(values.min()) * 3) / 3, math.ceil(np.log10(values.max()) * 3) / 3
    high = max(high, low + 1 / 3)
    side = 340

    def pixel(x: float, y: float) -> Point:
        share = [(math.log10(value) - low) / (high - low) for value in (x, y)]
        return LEFT + side * share[0], TOP + side * (1 - share[1])

    ends, canvas = (10**low, 10**high), SVG()
    for tick in _decades(low, high):
        for points in ([(tick, ends[0]), (tick, ends[1])], [(ends[0], tick), (ends[1], tick)]):
            canvas.line([pixel(*p) for p in points], GRID, 1)
        (x, _), (_, y) = pixel(tick, 1), pixel(1, tick)
        canvas.text(x, TOP + side + 16, f"{tick:,.6g}", anchor="ms")
        canvas.text(LEFT - 8, y + 4, f"{tick:,.6g}", anchor="rs")
    canvas.text(LEFT + side / 2, TOP + side + 38, x_label, anchor="ms")
    canvas.text(LEFT - 44, 18, y_label, bold=True)
    _stroke(canvas, [pixel(ends[0], ends[0]), pixel(ends[1], ends[1])], -1)
    canvas.text(LEFT + 10, TOP + 18, "overconfident: errs more than it predicts")
    canvas.text(LEFT + side - 10, TOP + side - 10, "underconfident: errs less", anchor="rs")
    names = [("calibrated", *pixel(ends[1], ends[1]), -1)]
    for name, (predicted, observed, number) in shown.items():
        points = [pixel(*p) for p in zip(predicted, observed, strict=True)]
        _stroke(canvas, points, number)
        canvas.dot(*points[-1], color(number), 5)
        names.append((name, *points[-1], number))
    return _chart(canvas, names, side, side)


# --- parts -----------------------------------------------------------------------------------------------------------


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = float(min(values)), float(max(values))
    return low, high if high > low else low + max(1.0, abs(low))


def _across(shown: Mapping[str, Line]) -> Scale:
    return Scale(*_range([value for line in shown.values() for value in line.x]), LEFT, LEFT + WIDTH)


def _panel(canvas: SVG, across: Scale, up: Scale, x_label: str, y_label: str, percent: bool = False) -> None:
    axis(canvas, up, LEFT, LEFT + WIDTH, vertical=True, percent=percent)
    axis(canvas, across, TOP + HEIGHT, TOP + HEIGHT)
    canvas.text(LEFT - 50, 18, y_label, bold=True)
    canvas.text(LEFT + WIDTH / 2, HEIGHT + 76, x_label, anchor="ms")


def _band(canvas: SVG, line: Line, across: Scale, up: Scale) -> None:
    low, high = ([(across(x), up(y)) for x, y in zip(line.x, edge, strict=True)] for edge in line.y[1:])
    canvas.area(low, high, color(line.number), 0.18)


def _stroke(canvas: SVG, points: Sequence[Point], number: int) -> None:
    dash = DASHES[number // len(COLORS) % len(DASHES)] if number >= 0 else LEVEL
    canvas.line(points, color(number), 2.2 if number >= 0 else 1, dash)


def _names(canvas: SVG, ends: Sequence[End], right: float) -> None:
    """Write names to the right of the panel, as near to their points as they fit, led there by a line."""
    ordered = sorted(ends, key=lambda end: end[2])
    heights = [end[2] for end in ordered]
    for _ in range(200):  # neighbors that are too near push each other away
        for i, (above, below) in enumerate(itertools.pairwise(heights)):
            if (lack := 17 - (below - above)) > 0.01:
                heights[i], heights[i + 1] = above - lack / 2, below + lack / 2
    for (name, x, y, number), height in zip(ordered, heights, strict=True):
        canvas.line([(x, y), (right + 8, height)], color(number), 0.8)
        _stroke(canvas, [(right + 8, height), (right + 28, height)], number)
        canvas.text(right + 34, height + 4, name, bold=True)


def _decades(low: float, high: float) -> list[float]:
    """Return round numbers between powers of ten."""
    ticks = [k * 10.0**e for e in range(math.floor(low), math.ceil(high) + 1) for k in (1, 2, 5)]
    return [tick for tick in ticks if low - 1e-9 <= math.log10(tick) <= high + 1e-9]


def _chart(canvas: SVG, ends: Sequence[End], width: float = WIDTH, height: float = HEIGHT) -> str:
    """Return a panel with the names of what ends in it to its right."""
    _names(canvas, ends, LEFT + width)
    return canvas.render(LEFT + width + 50 + 7.4 * max(len(name) for name, *_ in ends), height + 90)
