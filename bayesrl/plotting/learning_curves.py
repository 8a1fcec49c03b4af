"""The figure of one run: its return, and what it predicts of it with the band over posterior draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy import ndarray

from bayesrl.plotting.canvas import Scale, axis, color
from bayesrl.plotting.figure import Figure
from bayesrl.plotting.svg import SVG

RETURNS = {"eval/mean_reward": "evaluation", "rollout/ep_rew_mean": "training, last 100 episodes"}
LEFT, WIDTH, HEIGHT = 76, 520, 210  # pixels of a panel

Series = tuple[ndarray, ndarray]  # steps and values, [K]


class Curve(NamedTuple):
    """A line of a panel, and where it has one its band.

    Attributes:
        name: in the legend.
        line: steps and values, [K].
        low, high: the same of the band's edges.
    """

    name: str
    line: Series
    low: Series | None = None
    high: Series | None = None


def learning_curves(metrics: Mapping[str, Series]) -> Figure:
    """Return the return, and below it every metric that has a 5-95 % band.

    Arguments:
        metrics: steps and values by tag; the band of `tag` is `tag_p05` and `tag_p95`.
    """
    panels = [("return", [Curve(name, metrics[tag]) for tag, name in RETURNS.items() if tag in metrics])]
    for tag, line in metrics.items():
        if f"{tag}_p05" in metrics and f"{tag}_p95" in metrics:
            band = (metrics[f"{tag}_p05"], metrics[f"{tag}_p95"])
            title = f"{tag.rpartition('/')[2].replace('_', ' ')}, mean and 5-95 % over draws (return units)"
            panels.append((title, [Curve(tag, line, *band)]))
    panels = [panel for panel in panels if panel[1]]
    canvas, top = SVG(), 44
    last = max((int(curve.line[0].max()) for _, curves in panels for curve in curves), default=1)
    for title, curves in panels:
        _panel(canvas, title, curves, top, last)
        top += HEIGHT + 66
    canvas.text(LEFT + WIDTH / 2, top - 12, "transitions" if panels else "no row has been logged yet", anchor="ms")
    return Figure(canvas.render(LEFT + WIDTH + 30, top + 8), "; ".join(title for title, _ in panels))


def _panel(canvas: SVG, title: str, curves: Sequence[Curve], top: float, last: int) -> None:
    shown = np.concatenate([part[1] for curve in curves for part in (curve.line, curve.low, curve.high) if part])
    across = Scale(0, last, LEFT, LEFT + WIDTH)
    up = Scale(float(shown.min()), float(shown.max()), top + HEIGHT, top)
    canvas.text(LEFT, top - 14, title, bold=True)
    axis(canvas, across, top, top + HEIGHT)
    axis(canvas, up, LEFT, LEFT + WIDTH, vertical=True)
    for number, curve in enumerate(curves):
        points = _points(curve.line, across, up)
        if curve.low and curve.high:
            canvas.area(_points(curve.low, across, up), _points(curve.high, across, up), color(number), 0.18)
        canvas.line(points, color(number), 2)
        canvas.dot(*points[-1], color(number))
        if len(curves) > 1:
            y = top + HEIGHT - 12 - 18 * (len(curves) - 1 - number)
            canvas.box((LEFT + WIDTH - 204, y - 6, LEFT + WIDTH - 190, y - 2), color(number))
            canvas.text(LEFT + WIDTH - 182, y, curve.name)


def _points(series: Series, across: Scale, up: Scale) -> list[tuple[float, float]]:
    return [(across(x), up(y)) for x, y in zip(*(part.tolist() for part in series), strict=True)]
