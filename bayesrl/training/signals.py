"""Signals that stop training at a step's boundary, saved."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Interrupted(Exception):
    """A signal ended an evaluation."""


@contextmanager
def interruptible(interrupt: Callable[[int], None]) -> Iterator[None]:
    """SIGINT and SIGTERM are given to `interrupt`, in the main thread; a second one ends the process at once."""

    def note(number: int, frame: FrameType | None) -> None:
        interrupt(number)
        signal.signal(number, old[number])

    old: dict[int, Any] = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            old[number] = signal.signal(number, note)
    except ValueError:  # not in the main thread
        pass
    try:
        yield
    finally:
        for each, handler in old.items():
            signal.signal(each, handler)
