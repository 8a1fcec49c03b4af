"""Plots as pixels: panels with axes, lines, bands and maps, drawn twice as large and halved so that edges are smooth.

What `bayesrl.plotting.svg` is for pages, this is for film frames and for TensorBoard, which shows no SVG.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bayesrl.plotting.svg import COLORS, GRID, INK, Scale

PAPER, FAINT, FADED, RED = "#ffffff", "#c9d7e6", "#8fb0d0", COLORS[1]
Box = tuple[float, float, float, float]  # left, top, right, bottom
Point = tuple[float, float]


class Canvas:
    """An empty picture; places are in pixels from its top left.

    Arguments:
        width, height: in pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        self.size = width, height
        self._image = Image.new("RGB", (2 * width, 2 * height), PAPER)
        self._draw = ImageDraw.Draw(self._image)

    def picture(self) -> Image.Image:
        """What has been drawn."""
        return self._image.reduce(2)

    def text(self, x: float, y: float, text: str, size: int = 13, anchor: str = "ls", color: str = INK) -> None:
        """Anchors are Pillow's: l, m, r and a, m, s for left, middle, right and top, middle, baseline."""
        self._draw.text((2 * x, 2 * y), text, color, _font(2 * size), anchor)

    def box(self, box: Box, color: str) -> None:
        left, top, right, bottom = (2 * x for x in box)
        self._draw.rectangle((min(left, right), min(top, bottom), max(left, right), max(top, bottom)), color)

    def line(self, points: Sequence[Point], color: str, width: float = 2) -> None:
        self._draw.line([(2 * x, 2 * y) for x, y in points], color, round(2 * width), "curve")

    def area(self, low: Sequence[Point], high: Sequence[Point], color: str) -> None:
        """What lies between two lines from left to right."""
        outline = [(2 * x, 2 * y) for x, y in [*low, *reversed(high)]]
        if len(low) > 1:
            self._draw.polygon(outline, color)

    def dot(self, x: float, y: float, color: str, radius: float = 5) -> None:
        self._draw.ellipse([2 * (x - radius), 2 * (y - radius), 2 * (x + radius), 2 * (y + radius)], color, PAPER, 2)

    def paste(self, picture: Image.Image, box: Box) -> None:
        """A picture as large as it can be inside the box, in its proportions."""
        left, top, right, bottom = box
        factor = min(2 * (right - left) / picture.width, 2 * (bottom - top) / picture.height)
        size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
        x, y = left + right - size[0] / 2, top + bottom - size[1] / 2
        smooth = Image.Resampling.NEAREST if factor > 4 else Image.Resampling.LANCZOS
        self._image.paste(picture.convert("RGB").resize(size, smooth), (round(x), round(y)))


class Panel:
    """A plot in a box of a canvas, with grid, numbers and a title above.

    Arguments:
        canvas: drawn on.
        box: of the plot itself; numbers lie left and below, the title above.
        x, y: least and greatest of what is drawn, widened to round numbers.
        title: says what is seen and its units.
        across: says what lies along x; no numbers below without it.
    """

    def __init__(self, canvas: Canvas, box: Box, x: Point, y: Point, title: str, across: str = "") -> None:
        left, top, right, bottom = self.box = box
        self.canvas, self.x, self.y = canvas, Scale(*x, left, right), Scale(*y, bottom, top)
        for tick in self.y.ticks():
            canvas.line([(left, self.y(tick)), (right, self.y(tick))], GRID, 1)
            canvas.text(left - 6, self.y(tick), f"{tick:.6g}", 11, "rm")
        if across:
            for tick in self.x.ticks():
                canvas.line([(self.x(tick), top), (self.x(tick), bottom)], GRID, 1)
                canvas.text(self.x(tick), bottom + 5, f"{tick:.6g}", 11, "ma")
            canvas.text((left + right) / 2, bottom + 20, across, 12, "ma")
        canvas.text(left, top - 9, title, 14)

    def line(self, x: Sequence[float], y: Sequence[float], color: str, width: float = 2) -> None:
        points = self._points(x, y)
        if len(points) > 1:
            self.canvas.line(points, color, width)
        elif points:
            self.canvas.dot(*points[0], color, width)

    def band(self, x: Sequence[float], low: Sequence[float], high: Sequence[float], color: str = FAINT) -> None:
        self.canvas.area(self._points(x, low), self._points(x, high), color)

    def key(self, *names: tuple[str, str]) -> None:
        """(name, color) side by side at the top right, above the plot."""
        right = self.box[2]
        for name, color in reversed(names):
            right -= _font(12).getlength(name)
            self.canvas.text(right, self.box[1] - 9, name, 12)
            self.canvas.box((right - 18, self.box[1] - 17, right - 6, self.box[1] - 9), color)
            right -= 32

    def _points(self, x: Sequence[float], y: Sequence[float]) -> list[Point]:
        return [(self.x(a), self.y(b)) for a, b in zip(x, y, strict=True) if math.isfinite(b)]


def heat(title: str, values: np.ndarray, note: str = "") -> Image.Image:
    """A map [rows, columns] of numbers of 0 or more, white for 0, dark for the greatest, with the scale beside it."""
    most = float(values.max()) or 1.0
    canvas, (left, top, right, bottom) = Canvas(460, 420), (20, 60, 360, 400)
    share = (np.clip(values / most, 0, 1) ** 0.5)[..., None]
    shades = (255 + share * (np.array([16, 42, 92]) - 255)).astype(np.uint8)
    canvas.text(20, 26, title, 15)
    canvas.text(20, 46, note, 12)
    canvas.paste(Image.fromarray(shades).resize((340, 340), Image.Resampling.NEAREST), (left, top, right, bottom))
    canvas.line([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)], INK, 1)
    ramp = (255 + np.linspace(1, 0, 340)[:, None, None] ** 0.5 * (np.array([16, 42, 92]) - 255)).astype(np.uint8)
    canvas.paste(Image.fromarray(ramp.repeat(16, 1)), (380, top, 396, bottom))
    for part in (0, 0.25, 0.5, 0.75, 1):
        canvas.text(402, bottom - part * (bottom - top), f"{part * most:.3g}", 11, "lm")
    return canvas.picture()


def png(picture: Image.Image) -> bytes:
    """An RGB picture as a PNG file; of 256 colours at most with a palette, half as large and sooner written."""
    if colors := picture.getcolors(256):
        palette = np.array([color for _, color in colors], dtype=np.uint8)
        number = np.empty(1 << 24, dtype=np.uint8)  # of each colour; only what is touched takes memory
        number[palette.astype(int) @ (1, 1 << 8, 1 << 16)] = np.arange(len(palette))
        packed = np.frombuffer(picture.convert("RGBX").tobytes(), dtype="<u4") & 0xFFFFFF
        picture = Image.frombytes("P", picture.size, number[packed].tobytes())
        picture.putpalette(palette.tobytes())
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
