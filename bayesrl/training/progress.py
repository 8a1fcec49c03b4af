"""Progress bars, and the lines that a run prints."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

from tqdm import tqdm


def progress_bar(show: bool = True) -> Callable[..., Any]:
    """Return what makes a bar as `tqdm` does: a widget in a notebook, text elsewhere, nothing where not `show`."""
    if not show:
        return partial(tqdm, disable=True)
    notebook = "ipykernel" in sys.modules
    seconds = 0.2 if notebook or sys.stderr.isatty() else 10  # between two looks of a bar
    if not notebook:
        return partial(tqdm, mininterval=seconds, dynamic_ncols=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without ipywidgets it is the bar of text, which is no reason to warn
        from tqdm.auto import tqdm as automatic
    return partial(automatic, mininterval=seconds)


def printer(show: bool = True) -> Callable[[str], None]:
    """Return a function that prints a line beside the bars; only warnings where not `show`."""

    def say(line: str) -> None:
        if show or line.startswith("warning:"):
            tqdm.write(line)

    return say
