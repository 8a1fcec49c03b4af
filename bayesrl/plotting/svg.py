"""Figures as self-contained SVG texts: bars with intervals, curves, histograms, a map. Needs no plotting library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from torch import Tensor

from bayesrl.metrics.attribution import Band, Histogram
from bayesrl.plotting.canvas import BLUE, INK, PAPER, Box, Point, Scale, axis, color, heatmap

ANCHORS = {"l": "start", "m": "middle", "r": "end"}
DESCENT = {"s": 0.0, "m": 0.35, "a": 0.85}  # of a baseline below what the text is anchored at, in units of its size


class SVG:
    """A canvas whose drawing is SVG text, sized when it is rendered."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: int = 12,
        anchor: str = "ls",
        color: str = INK,
        bold: bool = False,
        turn: bool = False,
    ) -> None:
        """Write a line, upwards where `turn`; anchors are Pillow's."""
        y += DESCENT[anchor[1]] * size
        turned = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turn else ""
        style = (
            ' font-weight="bold"' * bold + f' font-size="{size}"' * (size != 12) + f' fill="{color}"' * (color != INK)
        )
        head = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{ANCHORS[anchor[0]]}"{style}{turned}'
        self.parts.append(f"<text {head}>{escape(text)}</text>")

    def box(self, box: Box, color: str) -> None:
        """Fill a rectangle."""
        left, top, right, bottom = box
        size = f'width="{right - left:.1f}" height="{bottom - top:.1f}"'
        self.parts.append(f'<rect x="{left:.1f}" y="{top:.1f}" {size} fill="{color}"/>')

    def line(self, points: Sequence[Point], color: str, width: float = 2, dash: str = "") -> None:
        """Draw a line through points."""
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        stroke = f'fill="none" stroke="{color}" stroke-width="{width}"{dashed}'
        self.parts.append(f'<polyline points="{_listed(points)}" {stroke}/>')

    def area(self, low: Sequence[Point], high: Sequence[Point], color: str, opacity: float = 1) -> None:
        """Fill what lies between two lines from left to right."""
        outline = _listed([*low, *reversed(high)])
        self.parts.append(f'<polygon points="{outline}" fill="{color}"{_opacity(opacity)}/>')

    def dot(self, x: float, y: float, color: str, radius: float = 3, opacity: float = 1) -> None:
        """Fill a circle."""
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{color}"{_opacity(opacity)}/>')

    def render(self, width: float, height: float) -> str:
        """Return the SVG text of what has been drawn, on white paper of this size in pixels."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
            f'height="{height:.0f}" font-family="sans-serif" font-size="12" fill="{INK}">'
        )
        paper = f'<rect x="0" y="0" width="{width:.1f}" height="{height:.1f}" fill="{PAPER}"/>'
        return "\n".join([head, paper, *self.parts, "</svg>", ""])


def _listed(points: Sequence[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _opacity(opacity: float) -> str:
    return f' fill-opacity="{opacity}"' if opacity < 1 else ""


# --- figures ---------------------------------------------------------------------------------------------------------


class Curve(NamedTuple):
    """Lines over a common x in one panel.

    Attributes:
        label: of the vertical axis.
        lines: heights by name, [k].
    """

    label: str
    lines: dict[str, Tensor]


def bars(names: Sequence[str], panels: dict[str, Band]) -> str:
    """Return horizontal bars with interval whiskers, a row for each name, a panel for each title: Bands of [rows]."""
    left, width, row = 20 + 7 * max(map(len, names)), 320, 22
    canvas, bottom = SVG(), 40 + row * len(names)
    for column, (title, values) in enumerate(panels.items()):
        start, top = left + column * (width + 40), float(values.high.max())
        scale = Scale(0, top, start, start + width)
        canvas.text(start, 22, title, bold=True)
        axis(canvas, scale, 34, bottom)
        for i, (mean, low, high) in enumerate(zip(*(part.tolist() for part in values), strict=True)):
            y = 40 + row * i
            canvas.box((start, y + 3, scale(mean), y + row - 3), BLUE)
            canvas.line([(scale(low), y + row / 2), (scale(high), y + row / 2)], INK, 1.5)
            for x in (low, high):
                canvas.line([(scale(x), y + 6), (scale(x), y + row - 6)], INK, 1.5)
    for i, name in enumerate(names):
        canvas.text(left - 8, 40 + row * i + 15, name, anchor="rs")
    return canvas.render(left + len(panels) * (width + 40), bottom + 30)


def curves(x: Tensor, label: str, panels: Sequence[Curve]) -> str:
    """Return lines over x [k], in panels above each other."""
    left, width, height, y, canvas = 70, 460, 200, 20, SVG()
    across = Scale(float(x.min()), float(x.max()), left, left + width)
    for panel in panels:
        shown = [value for line in panel.lines.values() for value in line.tolist() if math.isfinite(value)]
        up = Scale(min(0.0, *shown), max(shown), y + height, y)
        axis(canvas, across, y, y + height)
        axis(canvas, up, left, left + width, vertical=True)
        canvas.text(18, y + height / 2, panel.label, anchor="ms", turn=True)
        for i, (name, line) in enumerate(panel.lines.items()):
            points = [(across(a), up(b)) for a, b in zip(x.tolist(), line.tolist(), strict=True) if math.isfinite(b)]
            canvas.line(points, color(i), 2)
            for point in points:
                canvas.dot(*point, color(i))
            canvas.box((left + 14, y + 12 + 18 * i, left + 26, y + 16 + 18 * i), color(i))
            canvas.text(left + 32, y + 18 + 18 * i, name)
        y += height + 50
    canvas.text(left + width / 2, y - 6, label, anchor="ms")
    return canvas.render(left + width + 30, y + 10)


def histograms(columns: dict[str, dict[str, Histogram]]) -> str:
    """Return a column for each title and a row for each layer, each row's counts on a scale of its own."""
    rows = list(next(iter(columns.values())))
    left, width, height, canvas = 30 + 7 * max(map(len, rows)), 230, 70, SVG()
    for column, (title, layers) in enumerate(columns.items()):
        start = left + column * (width + 56)
        canvas.text(start + width / 2, 18, title, anchor="ms", bold=True)
        for i, (edges, counts) in enumerate(layers.values()):
            top = 30 + i * (height + 34)
            across = Scale(float(edges[0]), float(edges[-1]), start, start + width)
            up = Scale(0, max(int(counts.max()), 1), top + height, top)
            axis(canvas, across, top, top + height)
            if not counts.any():
                canvas.text(start + width / 2, top + height / 2, "the same in every draw", anchor="ms")
            ends = [across(edge) for edge in edges.tolist()]
            for j, count in enumerate(counts.tolist()):
                if count:
                    canvas.box((ends[j], up(count), ends[j + 1], top + height), BLUE)
    for i, name in enumerate(rows):
        canvas.text(left - 10, 30 + i * (height + 34) + height / 2, name, anchor="rs")
    return canvas.render(left + len(columns) * (width + 56), 30 + len(rows) * (height + 34))


def heat(title: str, values: Tensor) -> str:
    """Return a map [rows, columns] of numbers of 0 or more, white for 0, dark for the greatest."""
    canvas = SVG()
    heatmap(canvas, values.numpy(), title)
    return canvas.render(460, 420)
