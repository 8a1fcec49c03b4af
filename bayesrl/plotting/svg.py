"""Figures as self-contained SVG texts: bars with intervals, curves, histograms, a map. Needs no plotting library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from torch import Tensor

from bayesrl.metrics.attribution import Band, Histogram

INK, GRID, COLORS = "#333333", "#dddddd", ("#4477aa", "#ee6677", "#228833", "#aa3377", "#b58900", "#3399bb")


class Curve(NamedTuple):
    """Lines over a common x in one panel.

    Attributes:
        label: of the vertical axis.
        lines: name: heights, [k].
    """

    label: str
    lines: dict[str, Tensor]


def bars(names: Sequence[str], panels: dict[str, Band]) -> str:
    """Horizontal bars with interval whiskers, a row for each name, a panel for each title: Bands of [rows]."""
    left, width, row = 20 + 7 * max(map(len, names)), 320, 22
    out, bottom = [], 40 + row * len(names)
    for column, (title, values) in enumerate(panels.items()):
        start, top = left + column * (width + 40), float(values.high.max())
        scale = Scale(0, top, start, start + width)
        out += [text(start, 22, title, weight="bold"), *axis(scale, 34, bottom)]
        for i, (mean, low, high) in enumerate(zip(*(part.tolist() for part in values), strict=True)):
            y, end = 40 + row * i, scale(mean)
            out.append(box(start, y + 3, end - start, row - 6, COLORS[0]))
            out.append(path([(scale(low), y + row / 2), (scale(high), y + row / 2)], INK, 1.5))
            out += [path([(scale(x), y + 6), (scale(x), y + row - 6)], INK, 1.5) for x in (low, high)]
    labels = [text(left - 8, 40 + row * i + 15, name, "end") for i, name in enumerate(names)]
    return svg(left + len(panels) * (width + 40), bottom + 30, [*out, *labels])


def curves(x: Tensor, label: str, panels: Sequence[Curve]) -> str:
    """Lines over x [k], panels above each other."""
    left, width, height, out, y = 70, 460, 200, [], 20
    across = Scale(float(x.min()), float(x.max()), left, left + width)
    for panel in panels:
        shown = [value for line in panel.lines.values() for value in line.tolist() if math.isfinite(value)]
        up = Scale(min(0.0, *shown), max(shown), y + height, y)
        out += [*axis(across, y, y + height), *axis(up, left, left + width, vertical=True)]
        out.append(text(18, y + height / 2, panel.label, "middle", turn=True))
        for i, (name, line) in enumerate(panel.lines.items()):
            points = [(across(a), up(b)) for a, b in zip(x.tolist(), line.tolist(), strict=True) if math.isfinite(b)]
            out += [path(points, COLORS[i], 2), *(dot(*point, COLORS[i]) for point in points)]
            out += [box(left + 14, y + 12 + 18 * i, 12, 4, COLORS[i]), text(left + 32, y + 18 + 18 * i, name)]
        y += height + 50
    return svg(left + width + 30, y + 10, [*out, text(left + width / 2, y - 6, label, "middle")])


def histograms(columns: dict[str, dict[str, Histogram]]) -> str:
    """A column for each title, a row for each layer, each row's counts on a scale of its own."""
    rows = list(next(iter(columns.values())))
    left, width, height, out = 30 + 7 * max(map(len, rows)), 230, 70, []
    for column, (title, layers) in enumerate(columns.items()):
        start = left + column * (width + 56)
        out.append(text(start + width / 2, 18, title, "middle", weight="bold"))
        for i, (edges, counts) in enumerate(layers.values()):
            top = 30 + i * (height + 34)
            across = Scale(float(edges[0]), float(edges[-1]), start, start + width)
            up = Scale(0, max(int(counts.max()), 1), top + height, top)
            out += axis(across, top, top + height)
            if not counts.any():
                out.append(text(start + width / 2, top + height / 2, "the same in every draw", "middle"))
            ends = [across(edge) for edge in edges.tolist()]
            out += [
                box(ends[j], up(count), ends[j + 1] - ends[j], top + height - up(count), COLORS[0])
                for j, count in enumerate(counts.tolist())
                if count
            ]
    labels = [text(left - 10, 30 + i * (height + 34) + height / 2, name, "end") for i, name in enumerate(rows)]
    return svg(left + len(columns) * (width + 56), 30 + len(rows) * (height + 34), [*out, *labels])


def heat(title: str, values: Tensor) -> str:
    """A map [rows, columns] of numbers of 0 or more, white for 0, dark for the greatest."""
    rows, columns = values.shape
    cell, most = max(2, 400 // max(rows, columns)), float(values.max()) or 1.0
    out = [text(20, 22, f"{title}, 0 (white) to {most:.3g}", weight="bold")]
    for i, line in enumerate((values / most).tolist()):
        for j, share in enumerate(line):
            shade = "#" + "".join(f"{round(255 + share * (dark - 255)):02x}" for dark in (16, 42, 92))
            out.append(box(20 + j * cell, 36 + i * cell, cell, cell, shade))
    out.append(frame(20, 36, columns * cell, rows * cell))
    return svg(max(40 + columns * cell, 420), 56 + rows * cell, out)


# --- parts -----------------------------------------------------------------------------------------------------------


class Scale:
    """Numbers from low to high, widened to round ones, onto pixels from start to end."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        high = high if high > low else low + 1
        step = (high - low) / 5
        size = 10 ** math.floor(math.log10(step))
        self.step = next(size * k for k in (1, 2, 2.5, 5, 10) if size * k >= step * (1 - 1e-9))
        self.first, self.last = math.floor(low / self.step + 1e-9), math.ceil(high / self.step - 1e-9)
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        share = (value / self.step - self.first) / (self.last - self.first)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        return [k * self.step for k in range(self.first, self.last + 1)]


def axis(scale: Scale, near: float, far: float, vertical: bool = False, percent: bool = False) -> list[str]:
    """Grid lines from near to far and numbers, below or to the left."""
    out = []
    for tick in scale.ticks():
        at, label = scale(tick), f"{tick:.0%}" if percent else f"{tick:,.6g}"
        ends = [(near, at), (far, at)] if vertical else [(at, near), (at, far)]
        out.append(path(ends, GRID, 1))
        out.append(text(near - 6, at + 4, label, "end") if vertical else text(at, far + 15, label, "middle"))
    return out


def svg(width: float, height: float, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" font-family="sans-serif" font-size="12" fill="{INK}">'
    )
    return "\n".join([head, box(0, 0, width, height, "#ffffff"), *parts, "</svg>", ""])


def text(x: float, y: float, text: str, anchor: str = "start", weight: str = "normal", turn: bool = False) -> str:
    turned = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turn else ""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}"{turned}'
    return f"<text {place}>{escape(text)}</text>"


def box(x: float, y: float, width: float, height: float, color: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{color}"/>'


def frame(x: float, y: float, width: float, height: float) -> str:
    corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height), (x, y)]
    return path(corners, INK, 1)


def path(points: Sequence[tuple[float, float]], color: str, width: float, dash: str = "") -> str:
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<polyline points="{places}" fill="none" stroke="{color}" stroke-width="{width}"{dashed}/>'


def dot(x: float, y: float, color: str, radius: float = 3, opacity: float = 1) -> str:
    faint = f' fill-opacity="{opacity}"' if opacity < 1 else ""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{color}"{faint}/>'
