"""Charts of groups of runs as self-contained SVG texts: every line carries its name, and its band is an interval."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bayesrl.metrics.bootstrap import Array, Interval
from bayesrl.plotting.svg import COLORS, GRID, INK, Scale, axis, dot, path, svg, text

DASHES, LEVEL = ("", "7 4", "2 3"), "4 4"  # where there are more lines than colours; of what is marked
LEFT, WIDTH, HEIGHT = 64, 380, 240  # pixels of a panel


End = tuple[str, float, float, int]  # a name, the point that it belongs to, the number of its colour


class Line(NamedTuple):
    """A line and its band.

    Attributes:
        x: [K].
        y: [K], each with its interval.
        number: of its colour.
    """

    x: Array
    y: Interval
    number: int


def lines(x_label: str, y_label: str, shown: Mapping[str, Line], level: tuple[float, str] | None = None) -> str:
    """Lines with bands, named at their ends.

    Arguments:
        shown: by name.
        level: a height that is marked, and what it means.
    """
    edges = np.concatenate([np.concatenate([*line.y]) for line in shown.values()])
    heights = [*edges[np.isfinite(edges)], *([level[0]] if level else [])]
    across = Scale(*_ends([value for line in shown.values() for value in line.x]), LEFT, LEFT + WIDTH)
    up = Scale(*_ends(heights), 36 + HEIGHT, 36)
    out = _panel(across, up, x_label, y_label)
    out += [_band(line, across, up) for line in shown.values()]
    ends: list[End] = []
    if level:
        y = up(level[0])
        out.append(_stroke([(LEFT, y), (LEFT + WIDTH, y)], -1))
        ends.append((level[1], LEFT + WIDTH, y, -1))
    for name, line in shown.items():
        points = [(across(x), up(y)) for x, y in zip(line.x, line.y.value, strict=True)]
        out += [_stroke(points, line.number), dot(*points[-1], color(line.number))]
        ends.append((name, *points[-1], line.number))
    return _chart(out, ends)


def profiles(x_label: str, shown: Mapping[str, Line]) -> str:
    """Falling lines from 1 to 0, each named where it has fallen to a height of its own."""
    across = Scale(*_ends([value for line in shown.values() for value in line.x]), LEFT, LEFT + WIDTH)
    up = Scale(0, 1, 36 + HEIGHT, 36)
    out = _panel(across, up, x_label, "share of seeds above it", percent=True)
    out += [_band(line, across, up) for line in shown.values()]
    ends = []
    for name, line in shown.items():
        points = [(across(x), up(y)) for x, y in zip(line.x, line.y.value, strict=True)]
        out.append(_stroke(points, line.number))
        fallen = next((p for p, y in zip(points, line.y.value, strict=True) if y <= 0.5), points[-1])
        ends.append((name, *fallen, line.number))
    return _chart(out, ends)


def strips(x_label: str, shown: Mapping[str, tuple[Array, Interval, int]]) -> str:
    """A row for each name: every run a faint dot, the aggregate a strong one with its interval."""
    left = 24 + 7 * max(map(len, shown))
    bottom = 34 + 44 * len(shown)
    across = Scale(*_ends([v for runs, *_ in shown.values() for v in runs]), left, left + WIDTH)
    out = [*axis(across, 22, bottom), text(left + WIDTH / 2, bottom + 36, x_label, "middle")]
    for row, (name, (runs, (value, low, high), number)) in enumerate(shown.items()):
        y = 52 + 44 * row
        out.append(text(left - 12, y, name, "end", "bold"))
        out += [dot(across(run), y - 12, color(number), 4, opacity=0.35) for run in runs]
        out.append(path([(across(float(low)), y), (across(float(high)), y)], color(number), 3))
        out += [path([(across(float(e)), y - 7), (across(float(e)), y + 7)], color(number), 2) for e in (low, high)]
        out.append(dot(across(float(value)), y, color(number), 6))
    return svg(left + WIDTH + 40, bottom + 48, out)


def against(x_label: str, y_label: str, shown: Mapping[str, tuple[Array, Array, int]]) -> str:
    """Paths through a plane of equal logarithmic axes with its diagonal: what was predicted against what came."""
    values = np.concatenate([np.concatenate([x, y]) for x, y, _ in shown.values()])
    low, high = math.floor(np.log10(values.min()) * 3) / 3, math.ceil(np.log10(values.max()) * 3) / 3
    high = max(high, low + 1 / 3)
    side, top = 340, 36

    def place(x: float, y: float) -> tuple[float, float]:
        share = [(math.log10(value) - low) / (high - low) for value in (x, y)]
        return LEFT + side * share[0], top + side * (1 - share[1])

    ends, out = (10**low, 10**high), []
    for tick in _decades(low, high):
        for points in ([(tick, ends[0]), (tick, ends[1])], [(ends[0], tick), (ends[1], tick)]):
            out.append(path([place(*p) for p in points], GRID, 1))
        (x, _), (_, y) = place(tick, 1), place(1, tick)
        out += [text(x, top + side + 16, f"{tick:,.6g}", "middle"), text(LEFT - 8, y + 4, f"{tick:,.6g}", "end")]
    out += [text(LEFT + side / 2, top + side + 38, x_label, "middle"), text(LEFT - 44, 18, y_label, weight="bold")]
    out.append(_stroke([place(ends[0], ends[0]), place(ends[1], ends[1])], -1))
    out.append(text(LEFT + 10, top + 18, "too sure: errs more than it thinks"))
    out.append(text(LEFT + side - 10, top + side - 10, "too cautious: errs less", "end"))
    named = [("as sure as it should be", *place(ends[1], ends[1]), -1)]
    for name, (predicted, came, number) in shown.items():
        points = [place(*p) for p in zip(predicted, came, strict=True)]
        out += [_stroke(points, number), dot(*points[-1], color(number), 5)]
        named.append((name, *points[-1], number))
    return _chart(out, named, side, side)


def color(number: int) -> str:
    """Of the numbered line; ink for one that is none of the groups."""
    return COLORS[number % len(COLORS)] if number >= 0 else INK


# --- parts -----------------------------------------------------------------------------------------------------------


def _ends(values: Sequence[float]) -> tuple[float, float]:
    low, high = float(min(values)), float(max(values))
    return low, high if high > low else low + max(1.0, abs(low))


def _panel(across: Scale, up: Scale, x_label: str, y_label: str, percent: bool = False) -> list[str]:
    out = [*axis(up, LEFT, LEFT + WIDTH, vertical=True, percent=percent), *axis(across, 36 + HEIGHT, 36 + HEIGHT)]
    return [*out, text(LEFT - 50, 18, y_label, weight="bold"), text(LEFT + WIDTH / 2, HEIGHT + 76, x_label, "middle")]


def _band(line: Line, across: Scale, up: Scale) -> str:
    low, high = ([(across(x), up(y)) for x, y in zip(line.x, edge, strict=True)] for edge in line.y[1:])
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in [*low, *high[::-1]])
    return f'<polygon points="{places}" fill="{color(line.number)}" fill-opacity="0.18"/>'


def _stroke(points: Sequence[tuple[float, float]], number: int) -> str:
    dash = DASHES[number // len(COLORS) % len(DASHES)] if number >= 0 else LEVEL
    return path(points, color(number), 2.2 if number >= 0 else 1, dash)


def _names(ends: Sequence[End], right: float) -> Iterator[str]:
    """Names to the right of the panel, as near to their points as they can be without touching, led there by a line."""
    ordered = sorted(ends, key=lambda end: end[2])
    places = [end[2] for end in ordered]
    for _ in range(200):  # neighbours that are too near push each other away
        for i, (above, below) in enumerate(itertools.pairwise(places)):
            if (lack := 17 - (below - above)) > 0.01:
                places[i], places[i + 1] = above - lack / 2, below + lack / 2
    for (name, x, y, number), place in zip(ordered, places, strict=True):
        yield path([(x, y), (right + 8, place)], color(number), 0.8)
        yield _stroke([(right + 8, place), (right + 28, place)], number)
        yield text(right + 34, place + 4, name, weight="bold")


def _decades(low: float, high: float) -> list[float]:
    """Round numbers between powers of ten."""
    ticks = [k * 10.0**e for e in range(math.floor(low), math.ceil(high) + 1) for k in (1, 2, 5)]
    return [tick for tick in ticks if low - 1e-9 <= math.log10(tick) <= high + 1e-9]


def _chart(parts: Sequence[str], ends: Sequence[End], width: float = WIDTH, height: float = HEIGHT) -> str:
    """A panel's parts, with the names of what ends in it to its right."""
    names = 50 + 7.4 * max(len(name) for name, *_ in ends)
    return svg(LEFT + width + names, height + 90, [*parts, *_names(ends, LEFT + width)])
