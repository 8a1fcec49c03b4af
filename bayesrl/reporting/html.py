"""A comparison as one HTML page that opens from disk and fetches nothing, on light and on dark screens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from bayesrl.plotting.canvas import COLORS, GRID, INK
from bayesrl.reporting.comparison import RESAMPLES, Comparison, Figure

# The colours of the figures' files, by what they are on the page.
THEMED = {INK: "ink", GRID: "grid", "#ffffff": "paper"} | {color: f"c{i}" for i, color in enumerate(COLORS)}

STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #24292f; --soft: #59636e; --grid: #e3e6ea; --line: #d0d7de;
  --shade: #f4f6f8; --win: 0, 119, 187;
  --c0: #4477aa; --c1: #ee6677; --c2: #228833; --c3: #aa3377; --c4: #b58900; --c5: #3399bb }
@media (prefers-color-scheme: dark) { :root { --paper: #14171c; --ink: #e6e8eb; --soft: #9aa4af; --grid: #2a2f37;
  --line: #363c45; --shade: #1b1f26; --win: 86, 180, 233;
  --c0: #7fb2e5; --c1: #f58a97; --c2: #5cc46e; --c3: #e07fb4; --c4: #e0b83e; --c5: #6fd0ee } }
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif }
main { max-width: 1180px; margin: 0 auto; padding: 40px 28px 80px }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 6px } h2 { font-size: 23px; margin: 56px 0 4px }
h3 { font-size: 17px; margin: 0 0 8px } p { max-width: 76ch; margin: 6px 0 }
.lead { font-size: 18px; margin: 16px 0 } .soft, figcaption, dt { color: var(--soft) }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 3px 18px; margin: 18px 0 } dd { margin: 0 }
.wide { overflow-x: auto }
table { border-collapse: collapse; margin: 14px 0 8px; font-variant-numeric: tabular-nums }
caption { text-align: left; color: var(--soft); font-size: 14px }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: 14px }
tbody th { color: var(--ink); font-size: 16px }
th, td { padding: 7px 22px 7px 0; border-bottom: 1px solid var(--line); white-space: nowrap }
td span { color: var(--soft) } th.p { text-align: center; padding: 7px 16px; white-space: normal; max-width: 150px }
td.p { padding: 7px 16px; text-align: center; border: 2px solid var(--paper) }
i.key { display: inline-block; width: 12px; height: 12px; border-radius: 6px; margin-right: 9px }
.figures { display: grid; gap: 34px 36px; margin: 28px 0 }
@media (min-width: 1100px) { .figures { grid-template-columns: 1fr 1fr } }
figure { margin: 0 } figure svg { width: 100%; height: auto; max-width: 760px; display: block }
figcaption { font-size: 14px; max-width: 72ch; margin-top: 4px }
details { margin: 14px 0 } summary { cursor: pointer; color: var(--soft) } code { font-size: 13px }
.common { columns: 300px; font-size: 13px; list-style: none; padding: 0 } .common li { overflow-wrap: anywhere }
"""


def page(
    title: str,
    facts: Mapping[str, str],
    comparisons: Sequence[tuple[Comparison, Mapping[str, Figure]]],
    common: Sequence[str],
    skipped: Sequence[tuple[str, str]],
) -> str:
    """The HTML text.

    Arguments:
        title: what was compared.
        facts: of the whole, a line each.
        comparisons: with their figures.
        common: settings that all runs share, as `key=value`.
        skipped: runs that were left out, each with the reason.
    """
    parts = [f"<h1>{escape(title)}</h1>", f'<p class="lead">{escape(_lead(comparisons[0][0]))}</p>']
    parts.append("<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items()) + "</dl>")
    for comparison, figures in comparisons:
        if len(comparisons) > 1:
            parts.append(f"<h2>{escape(comparison.title)}</h2>")
        parts.append(_table(comparison))
        if len(comparison.groups) > 1:
            parts.append(_matrix(comparison))
        parts.append('<div class="figures">' + "\n".join(map(_figure, figures.values())) + "</div>")
    parts.append(
        "<h2>What the intervals are</h2><p>Training again with other seeds would give other numbers. How far other, "
        f"the bootstrap says: {RESAMPLES:,} times as many seeds as there are were drawn from them, with replacement and"
        " within each environment, and every number computed anew; 95 % of the results lie in its interval. IQM is the "
        "interquartile mean, the mean of the middle half of the seeds: it is moved less than the mean by a seed that "
        "failed, and it wobbles less than the median. With fewer than about five seeds the intervals are too narrow, "
        "with one they have no width. (Agarwal et al., 2021)</p>"
    )
    if skipped:
        rows = "".join(f"<li><code>{escape(run)}</code>: {escape(reason)}</li>" for run, reason in skipped)
        parts.append(f"<h2>Left out</h2><ul>{rows}</ul>")
    settings = "".join(f"<li><code>{escape(word)}</code></li>" for word in common)
    parts.append(f"<details><summary>What all runs have in common</summary><ul class=common>{settings}</ul></details>")
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    body = "\n".join(parts)
    head = f"<head>{head}<style>{STYLE}</style></head>"
    return f'<!doctype html>\n<html lang="en">{head}\n<body><main>{body}</main></body></html>\n'


def _lead(comparison: Comparison) -> str:
    """The outcome in a sentence or two."""
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


def _table(comparison: Comparison) -> str:
    rows = comparison.rows()
    head = "".join(f"<th>{escape(name)}</th>" for name in rows[0])
    body = ""
    for group, row in zip(comparison.groups, rows, strict=True):
        cells = "".join(f"<td>{_dim(value)}</td>" for key, value in row.items() if key)
        body += f"<tr><th>{_key(group.number)}{escape(group.name)}</th>{cells}</tr>"
    about = f"{comparison.score}, with 95 % intervals"
    return f'<div class="wide"><table><caption>{escape(about)}</caption>' + (
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _matrix(comparison: Comparison) -> str:
    """Probability of improvement, each row's group over each column's."""
    groups = comparison.groups
    head = "".join(f'<th class="p">{escape(group.name)}</th>' for group in groups)
    body = ""
    for a in groups:
        body += f"<tr><th>{_key(a.number)}{escape(a.name)}</th>"
        for b in groups:
            if a is b:
                body += '<td class="p"></td>'
                continue
            value, low, high = (float(part) for part in comparison.improvement(a, b))
            shade = max(0.0, value - 0.5) * 0.7
            interval = f"[{low:.2f}, {high:.2f}]"
            shown = f"<span> {interval}</span>" if len(groups) <= 5 else ""
            style = f"background:rgba(var(--win),{shade:.2f})"
            body += f'<td class="p" style="{style}" title="{interval}">{value:.2f}{shown}</td>'
        body += "</tr>"
    return (
        f'<div class="wide"><table><caption>Probability that a run of the row {comparison.beats} one of the column'
        f"</caption><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _figure(figure: Figure) -> str:
    svg = figure.svg
    for color, name in THEMED.items():
        svg = svg.replace(color, f"var(--{name})")
    return f"<figure><h3>{escape(figure.title)}</h3>{svg}<figcaption>{escape(figure.caption)}</figcaption></figure>"


def _key(number: int) -> str:
    return f'<i class="key" style="background:var(--c{number % len(COLORS)})"></i>'


def _dim(value: str) -> str:
    """The interval less strong than its value."""
    value, bracket, interval = escape(value).partition(" [")
    return f"{value} <span>[{interval}</span>" if bracket else value
