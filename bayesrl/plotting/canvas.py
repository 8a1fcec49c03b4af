"""Drawing shared by SVG and pixels: colors, scales, axes and heat maps, on a canvas of either kind."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

INK, GRID, PAPER = "#333333", "#dddddd", "#ffffff"
COLORS = ("#4477aa", "#ee6677", "#228833", "#aa3377", "#b58900", "#3399bb")  # of numbered lines
BLUE, RED = COLORS[:2]
FAINT, FADED = "#c9d7e6", "#8fb0d0"  # a band behind a blue line, and what is past
DARK = (16, 42, 92)  # red, green and blue of the greatest number of a heat map

Point = tuple[float, float]
Box = tuple[float, float, float, float]  # left, top, right, bottom


class Canvas(Protocol):
    """A drawing; coordinates are in pixels from its top left."""

    def text(
        self, x: float, y: float, text: str, size: int = 12, anchor: str = "ls", color: str = INK, bold: bool = False
    ) -> None:
        """Write a line. Anchors are Pillow's: l, m, r and a, m, s for left, middle, right and top, middle, baseline."""

    def box(self, box: Box, color: str) -> None:
        """Fill a rectangle."""

    def line(self, points: Sequence[Point], color: str, width: float = 2, dash: str = "") -> None:
        """Draw a line through points."""

    def area(self, low: Sequence[Point], high: Sequence[Point], color: str) -> None:
        """Fill what lies between two lines from left to right."""

    def dot(self, x: float, y: float, color: str, radius: float = 3) -> None:
        """Fill a circle."""


class Scale:
    """A map from numbers, whose range is widened to round ones, to pixels.

    Arguments:
        low, high: the range of the numbers.
        start, end: the pixels of its two ends.
    """

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
        """Return the round numbers of the range, about six."""
        return [k * self.step for k in range(self.first, self.last + 1)]


def axis(
    canvas: Canvas, scale: Scale, near: float, far: float, vertical: bool = False, percent: bool = False, size: int = 12
) -> None:
    """Draw grid lines from `near` to `far`, and numbers below them, or to their left where the axis is vertical."""
    for tick in scale.ticks():
        at, label = scale(tick), f"{tick:.0%}" if percent else f"{tick:,.6g}"
        canvas.line([(near, at), (far, at)] if vertical else [(at, near), (at, far)], GRID, 1)
        if vertical:
            canvas.text(near - 6, at, label, size, "rm")
        else:
            canvas.text(at, far + 5, label, size, "ma")


def frame(canvas: Canvas, box: Box) -> None:
    """Draw the outline of a rectangle."""
    left, top, right, bottom = box
    canvas.line([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)], INK, 1)


def color(number: int) -> str:
    """Return the color of a numbered line; ink for one that belongs to no group (-1)."""
    return COLORS[number % len(COLORS)] if number >= 0 else INK


def shade(share: float) -> str:
    """Return the color of a share of the greatest number: white for 0, dark for 1, on a scale of square roots."""
    root = min(max(share, 0.0), 1.0) ** 0.5
    return "#" + "".join(f"{round(255 + root * (dark - 255)):02x}" for dark in DARK)


def heatmap(canvas: Canvas, values: np.ndarray, title: str, note: str = "", side: float = 340) -> None:
    """Draw a map [rows, columns] of numbers of 0 or more in square cells, with its scale beside it.

    Arguments:
        canvas: of at least `side` + 120 by `side` + 80 pixels.
        values: white where 0, dark where greatest.
        title: in the first line.
        note: in the second line.
        side: of the square that the map is fitted into, in pixels.
    """
    (rows, columns), (left, top) = values.shape, (20, 60)
    cell, most = side / max(rows, columns), float(values.max()) or 1.0
    canvas.text(left, 26, title, 15)
    if note:
        canvas.text(left, 46, note, 12)
    for i, row in enumerate((values / most).tolist()):
        for j, share in enumerate(row):
            x, y = left + j * cell, top + i * cell
            canvas.box((x, y, x + cell, y + cell), shade(share))
    right, bottom = left + columns * cell, top + rows * cell
    frame(canvas, (left, top, right, bottom))
    step = (bottom - top) / 64
    for k in range(64):
        canvas.box((right + 20, bottom - (k + 1) * step, right + 36, bottom - k * step), shade((k + 0.5) / 64))
    for part in (0, 0.25, 0.5, 0.75, 1):
        canvas.text(right + 42, bottom - part * (bottom - top), f"{part * most:.3g}", 11, "lm")
