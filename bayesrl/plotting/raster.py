"""Plots as pixels, for film frames and for TensorBoard, which shows no SVG: panels with axes, lines, bands and maps.

Everything is drawn twice as large and halved, so that edges are smooth.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bayesrl.plotting.canvas import FAINT, INK, PAPER, Box, Point, Scale, axis, heatmap


class Canvas:
    """A picture on white paper; coordinates are in pixels from its top left.

    Arguments:
        width, height: in pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        self.size = width, height
        self._image = Image.new("RGB", (2 * width, 2 * height), PAPER)
        self._draw = ImageDraw.Draw(self._image)

    def picture(self) -> Image.Image:
        """Return what has been drawn."""
        return self._image.reduce(2)

    def text(
        self, x: float, y: float, text: str, size: int = 12, anchor: str = "ls", color: str = INK, bold: bool = False
    ) -> None:
        """Write a line; anchors are Pillow's. There is one weight, whether `bold` or not."""
        self._draw.text((2 * x, 2 * y), text, color, _font(2 * size), anchor)

    def box(self, box: Box, color: str) -> None:
        """Fill a rectangle."""
        left, top, right, bottom = (2 * x for x in box)
        self._draw.rectangle((min(left, right), min(top, bottom), max(left, right), max(top, bottom)), color)

    def line(self, points: Sequence[Point], color: str, width: float = 2, dash: str = "") -> None:
        """Draw a line through points; dashes are not drawn."""
        self._draw.line([(2 * x, 2 * y) for x, y in points], color, round(2 * width), "curve")

    def area(self, low: Sequence[Point], high: Sequence[Point], color: str) -> None:
        """Fill what lies between two lines from left to right."""
        outline = [(2 * x, 2 * y) for x, y in [*low, *reversed(high)]]
        if len(low) > 1:
            self._draw.polygon(outline, color)

    def dot(self, x: float, y: float, color: str, radius: float = 5) -> None:
        """Fill a circle, with a rim of paper."""
        self._draw.ellipse([2 * (x - radius), 2 * (y - radius), 2 * (x + radius), 2 * (y + radius)], color, PAPER, 2)

    def paste(self, picture: Image.Image, box: Box) -> None:
        """Put another picture into the box, as large as its proportions allow."""
        left, top, right, bottom = box
        factor = min(2 * (right - left) / picture.width, 2 * (bottom - top) / picture.height)
        size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
        x, y = left + right - size[0] / 2, top + bottom - size[1] / 2
        smooth = Image.Resampling.NEAREST if factor > 4 else Image.Resampling.LANCZOS
        self._image.paste(picture.convert("RGB").resize(size, smooth), (round(x), round(y)))


class Panel:
    """A plot in a box of a picture, with grid, numbers and a title above.

    Arguments:
        canvas: drawn on.
        box: of the plot itself; numbers lie left and below, the title above.
        x, y: least and greatest of what is drawn, widened to round numbers.
        title: says what is seen and its units.
        across: says what lies along x; without it, there are no numbers below.
    """

    def __init__(self, canvas: Canvas, box: Box, x: Point, y: Point, title: str, across: str = "") -> None:
        left, top, right, bottom = self.box = box
        self.canvas, self.x, self.y = canvas, Scale(*x, left, right), Scale(*y, bottom, top)
        axis(canvas, self.y, left, right, vertical=True, size=11)
        if across:
            axis(canvas, self.x, top, bottom, size=11)
            canvas.text((left + right) / 2, bottom + 20, across, 12, "ma")
        canvas.text(left, top - 9, title, 14)

    def line(self, x: Sequence[float], y: Sequence[float], color: str, width: float = 2) -> None:
        """Draw a line through the finite points."""
        points = self._points(x, y)
        if len(points) > 1:
            self.canvas.line(points, color, width)
        elif points:
            self.canvas.dot(*points[0], color, width)

    def band(self, x: Sequence[float], low: Sequence[float], high: Sequence[float], color: str = FAINT) -> None:
        """Fill what lies between two lines."""
        self.canvas.area(self._points(x, low), self._points(x, high), color)

    def key(self, *names: tuple[str, str]) -> None:
        """Write pairs of name and color side by side at the top right, above the plot."""
        right = self.box[2]
        for name, color in reversed(names):
            right -= _font(12).getlength(name)
            self.canvas.text(right, self.box[1] - 9, name, 12)
            self.canvas.box((right - 18, self.box[1] - 17, right - 6, self.box[1] - 9), color)
            right -= 32

    def _points(self, x: Sequence[float], y: Sequence[float]) -> list[Point]:
        return [(self.x(a), self.y(b)) for a, b in zip(x, y, strict=True) if math.isfinite(b)]


def heat(title: str, values: np.ndarray, note: str = "") -> Image.Image:
    """Return a map [rows, columns] of numbers of 0 or more, white for 0, dark for the greatest."""
    canvas = Canvas(460, 420)
    heatmap(canvas, values, title, note)
    return canvas.picture()


def png(picture: Image.Image) -> bytes:
    """Return a PNG file of an RGB picture; up to 256 colors have a palette, half as large and sooner written."""
    if colors := picture.getcolors(256):
        palette = np.array([color for _, color in colors], dtype=np.uint8)
        number = np.empty(1 << 24, dtype=np.uint8)  # of each color; only what is touched takes memory
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
