"""A comparison as one HTML page that opens from disk and fetches nothing, on light and on dark screens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bayesrl.plotting.canvas import COLORS, GRID, INK, PAPER
from bayesrl.reporting.comparison import RESAMPLES, Comparison, Figure

# Variables of the page's style by the color that they stand for in the figures' files.
THEME = {INK: "ink", GRID: "grid", PAPER: "paper"} | {color: f"c{i}" for i, color in enumerate(COLORS)}


def page(
    title: str,
    facts: Mapping[str, str],
    comparisons: Sequence[tuple[Comparison, Mapping[str, Figure]]],
    common: Sequence[str],
    skipped: Sequence[tuple[str, str]],
) -> str:
    """Return the HTML text, from the template `page.html`.

    Arguments:
        title: what was compared.
        facts: about all runs, a line each.
        comparisons: with their figures.
        common: settings that all runs share, as `key=value`.
        skipped: runs that were left out, each with the reason.
    """
    environment = Environment(
        loader=PackageLoader("bayesrl", "reporting"), autoescape=True, undefined=StrictUndefined, auto_reload=False
    )
    environment.filters["themed"] = _themed
    return environment.get_template("page.html").render(
        title=title,
        lead=_lead(comparisons[0][0]),
        facts=facts,
        comparisons=[(comparison, list(figures.values())) for comparison, figures in comparisons],
        common=common,
        skipped=skipped,
        colors=len(COLORS),
        resamples=RESAMPLES,
        zip=zip,
    )


def _themed(svg: str) -> Markup:
    """Return a figure, which escapes its own texts, with the colors of the page in place of those of its file."""
    for color, name in THEME.items():
        svg = svg.replace(color, f"var(--{name})")
    return Markup(svg)


def _lead(comparison: Comparison) -> str:
    """Return the outcome in a sentence or two."""
    best, *others = comparison.groups
    row, one = comparison.rows()[0], f"{best.name} on {comparison.title}"
    if comparison.by_episodes:
        solved = f"(episodes to solve: {row['episodes to solve']})"
        alone, first = f"{one} solved the task {solved}.", f"{best.name} solved the task soonest {solved}."
    else:
        reached = (
            f"{row['IQM']} (IQM with 95 % interval)" if len(best.scores) > 1 else f"{best.scores[0]:,.4g} with one seed"
        )
        alone = f"{one} reached a {comparison.score} of {reached}."
        first = f"{best.name} scored highest, an IQM of {row['IQM']}."
    if not others:
        return alone
    sure = comparison.improvement(best, others[0])
    clear = "" if float(sure.low) > 0.5 else " The interval holds one half: these seeds do not tell the two apart."
    return (
        f"{first} One of its runs {comparison.beats} one of {others[0].name}, the next, with probability "
        f"{float(sure.value):.2f} [{float(sure.low):.2f}, {float(sure.high):.2f}].{clear}"
    )
