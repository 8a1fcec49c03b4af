"""An episode as film frames and as text: the environment beside what the posterior thinks of each action.

Shapes: A actions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from PIL import Image

from bayesrl.deployment.episode import EpisodeStep
from bayesrl.plotting.canvas import BLUE, FADED, FAINT, INK, RED, Scale, axis
from bayesrl.plotting.raster import Canvas, Panel

SIZE = WIDTH, HEIGHT = 960, 540
SHOWN = 8  # actions at most
NOTHING = "no bands: an agent without values of single actions"
BLOCKS = "▁▂▃▄▅▆▇█"


class Frames:
    """Draws the newest step of an episode, with the steps before it.

    Arguments:
        title: names the environment.
        acts: says what acts, such as "the posterior mean".
        names: of the actions; numbers by default.
        draws: whether one draw acts, whose Q is marked beside the bands.
    """

    def __init__(self, title: str, acts: str, names: Sequence[str] = (), draws: bool = False) -> None:
        self.title, self.acts, self.names, self.draws = title, acts, names, draws

    def name(self, action: Any) -> str:
        """Return an action's label: its number, or the numbers of a continuous one."""
        if not isinstance(action, int):
            return ", ".join(f"{x:.2f}" for x in action)
        return self.names[action] if self.names else f"action {action}"

    def part(self, i: int, step: EpisodeStep) -> str:
        """The name of the i-th number of a continuous action."""
        if i < len(self.names):
            return self.names[i]
        return "action" if len(step.action) == 1 else f"action {i}"

    def headline(self, step: EpisodeStep) -> str:
        """Where the episode is."""
        ended = f", {step.ended}" if step.ended else ""
        return f"{self.title}   step {step.step}   return {step.ret:.4g}{ended}"

    # --- frames ----------------------------------------------------------------------------------------------------

    def frame(self, history: Sequence[EpisodeStep]) -> Image.Image:
        """The newest of the moments, a picture of SIZE."""
        now, canvas = history[-1], Canvas(*SIZE)
        canvas.text(20, 32, self.headline(now), 18)
        canvas.text(WIDTH - 20, 32, f"acts: {self.acts}", 14, "rs")
        if now.picture is not None:
            canvas.paste(now.picture, (20, 56, 470, 520))
        else:
            canvas.text(245, 280, "the environment draws no picture", 13, "mm", "#888888")
        if now.bands is None:
            canvas.text(725, 260, f"action {self.name(now.action)}", 15, "mm")
            canvas.text(725, 284, NOTHING, 13, "mm", "#888888")
        else:
            self._actions(canvas, history) if now.proposed is None else self._policies(canvas, now)
            self._course(canvas, history)
        return canvas.picture()

    def _actions(self, canvas: Canvas, history: Sequence[EpisodeStep]) -> None:
        """A row for each action: bands over draws, their median and the draw that acts."""
        now, (low, high) = history[-1], extent(history)
        assert now.bands is not None and now.acting is not None
        rows = shown(now)
        left, top, right = 590, 98, 940
        height = min(34, 150 / len(rows))
        across = Scale(low, high, left, right)
        canvas.text(500, 66, "Q of each action, in return units", 14)
        few = "" if len(rows) == now.bands.shape[1] else f"; {len(rows)} of {now.bands.shape[1]} actions"
        canvas.text(
            500,
            84,
            f"light: 90 % of the posterior's draws, dark: 50 %, line: median; < is taken{few}",
            11,
            color="#777777",
        )
        axis(canvas, across, top, top + height * len(rows), size=11)
        for i, action in enumerate(rows):
            middle, half = top + height * (i + 0.5), height * 0.3
            p05, p25, p50, p75, p95 = (across(float(q)) for q in now.bands[:, action])
            canvas.box((p05, middle - half, p95, middle + half), FAINT)
            canvas.box((p25, middle - half, p75, middle + half), FADED)
            canvas.box((p50 - 1, middle - half, p50 + 1, middle + half), INK)
            chosen = action == now.action
            if self.draws:
                canvas.dot(across(float(now.acting[action])), middle, RED, 5)
            name = f"{self.name(action)} <" if chosen else self.name(action)
            canvas.text(left - 12, middle, name, 13, "rm", RED if chosen else INK)
        if self.draws:
            canvas.dot(right - 76, 62, RED, 5)
            canvas.text(right, 66, "the draw's Q", 12, "rs")

    def _policies(self, canvas: Canvas, now: EpisodeStep) -> None:
        """A row for each number of a continuous action: bands over the draws' policies, and what is done."""
        assert now.proposed is not None
        left, top, right = 590, 98, 940
        rows = range(min(SHOWN, len(now.action)))
        height, across = min(34, 150 / len(rows)), Scale(-1, 1, left, right)
        canvas.text(500, 66, "What each draw would do, actions in [-1, 1]", 14)
        few = "" if len(rows) == len(now.action) else f"; {len(rows)} of {len(now.action)} numbers"
        told = f"light: 90 % of the draws' policies, dark: 50 %, line: median, dot: what is done{few}"
        canvas.text(500, 84, told, 11, color="#777777")
        axis(canvas, across, top, top + height * len(rows), size=11)
        for i in rows:
            middle, half = top + height * (i + 0.5), height * 0.3
            p05, p25, p50, p75, p95 = (across(float(q)) for q in now.proposed[:, i])
            canvas.box((p05, middle - half, p95, middle + half), FAINT)
            canvas.box((p25, middle - half, p75, middle + half), FADED)
            canvas.box((p50 - 1, middle - half, p50 + 1, middle + half), INK)
            canvas.dot(across(now.action[i]), middle, RED, 5)
            canvas.text(left - 12, middle, self.part(i, now), 13, "rm")

    def _course(self, canvas: Canvas, history: Sequence[EpisodeStep]) -> None:
        """Draw the values of the actions taken, from the episode's first step to now."""
        taken = [m for m in history if m.bands is not None and not m.ended]
        x = [m.step for m in taken]
        p05, p50, p95 = ([float(m.bands[i, m.taken]) for m in taken if m.bands is not None] for i in (0, 2, 4))
        end, std = (0.0, max(20.0, x[-1])), [m.uncertainty for m in taken]
        panel = Panel(canvas, (590, 318, 940, 398), end, extent(history), "Q of the action taken, return units")
        panel.band(x, p05, p95)
        panel.line(x, p50, BLUE)
        panel.key(("median", BLUE), ("90 % of draws", FAINT))
        title = "uncertainty: standard deviation of Q over draws"
        below = Panel(canvas, (590, 432, 940, 492), end, (0, max(std) or 1.0), title, "step")
        below.line(x, std, RED)

    # --- text ------------------------------------------------------------------------------------------------------

    def text(self, history: Sequence[EpisodeStep], width: int = 80) -> str:
        """The newest of the moments in `width` columns of characters."""
        now = history[-1]
        lines = [self.headline(now), f"acts: {self.acts}", ""]
        if now.bands is None or now.acting is None:
            return "\n".join([*lines, f"> {self.name(now.action)}", NOTHING])
        if now.proposed is not None:
            lines += [f"> {self.name(now.action)}", f"Q of it: {self._taken(now)}, median [5 %, 95 %] of draws"]
            lines += [
                f"  {self.part(i, now)}: draws would do {p[2]:.2f} [{p[0]:.2f}, {p[4]:.2f}]"
                for i, p in enumerate(now.proposed.T)
            ]
            return "\n".join([*lines, "", *self._uncertainty(history, width)])
        rows, (low, high) = shown(now), extent(history)
        label = max(len(self.name(action)) for action in rows)
        columns = max(10, width - label - 30)
        place = lambda value: round((value - low) / (high - low) * (columns - 1))  # noqa: E731
        for action in rows:
            p05, p25, p50, p75, p95 = (place(float(q)) for q in now.bands[:, action])
            bar = ["░" if p05 <= i <= p95 else " " for i in range(columns)]
            bar[p25 : p75 + 1] = "▒" * (p75 + 1 - p25)
            bar[p50] = "█"
            if self.draws:
                bar[place(min(max(float(now.acting[action]), low), high))] = "o"
            mark = ">" if action == now.action else " "
            numbers = f"{now.bands[2, action]:8.4g} [{now.bands[0, action]:.4g}, {now.bands[4, action]:.4g}]"
            lines.append(f"{mark} {self.name(action):{label}} |{''.join(bar)}|{numbers}")
        key = "░ 90 % of draws  ▒ 50 %  █ median"
        lines += ["", f"{key}  o the draw that acts" if self.draws else key]
        return "\n".join([*lines, "", *self._uncertainty(history, width)])

    def _uncertainty(self, history: Sequence[EpisodeStep], width: int) -> list[str]:
        std = [m.uncertainty for m in history if not m.ended][-(width - 2) :]
        most = max(std) or 1.0
        spark = "".join(BLOCKS[min(7, int(8 * each / most))] for each in std)
        return [f"standard deviation of Q over draws: {history[-1].uncertainty:.4g}", spark]

    def line(self, step: EpisodeStep) -> str:
        """Return a step as one line of text, for files and pipes."""
        if step.ended:
            return self.headline(step)
        known = "" if math.isnan(step.uncertainty) else f"   Q {self._taken(step)}   sd {step.uncertainty:.4g}"
        return f"step {step.step:4}   return {step.ret:8.4g}   {self.name(step.action)}{known}"

    def _taken(self, step: EpisodeStep) -> str:
        assert step.bands is not None
        low, _, middle, _, high = (float(q) for q in step.bands[:, step.taken])
        return f"{middle:.4g} [{low:.4g}, {high:.4g}]"


def shown(step: EpisodeStep) -> list[int]:
    """The actions that are shown: all, or the SHOWN best by median and the one chosen, in their order."""
    assert step.bands is not None
    best = step.bands[2].argsort()[::-1][:SHOWN].tolist()
    if step.action not in best:
        best[-1] = step.action
    return sorted(best)


def extent(history: Sequence[EpisodeStep]) -> tuple[float, float]:
    """Least and greatest of the bands so far, and of what acts."""
    low = min(float(min(m.bands[0].min(), m.acting.min())) for m in history if m.bands is not None)  # type: ignore[union-attr]
    high = max(float(max(m.bands[-1].max(), m.acting.max())) for m in history if m.bands is not None)  # type: ignore[union-attr]
    return low, high if high > low else low + 1
