"""Checkpoints: files that are whole or absent, kept in rotation; the replay beside them, stored once.

    RUN_DIR/checkpoints/000000005000.pt       everything but the replay, named by transitions
    RUN_DIR/replay/000000000-000005000.pt     the rows written between two checkpoints

A file is written beside its name, flushed to disk and renamed, so that a kill at any moment leaves the last whole one.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bayesrl.rl.replay_buffer import ReplayBuffer

FORMAT = "bayesrl checkpoint 1"
REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EFBIG: "allow larger files (ulimit -f)",
}


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written or read; the message says which and what to do."""


class Checkpoints:
    """The checkpoints of one run.

    Arguments:
        run_dir: directory of the run.
        keep: number of checkpoints that stay on disk, the newest ones.
        translate: applied to what each file holds, for runs that an earlier version wrote.
    """

    def __init__(self, run_dir: Path, keep: int = 3, translate: Callable[[Any], Any] | None = None) -> None:
        if keep < 1:
            raise ValueError(f"got checkpoint.keep={keep}, wanted at least 1")
        self.run_dir, self.keep = run_dir, keep
        self.translate = translate or (lambda state: state)
        self.rows = 0  # replay rows already on disk
        self._rows_at: dict[int, int] = {}  # replay rows of each checkpoint

    def steps(self) -> list[int]:
        """Transitions of the checkpoints on disk, oldest first."""
        return sorted(int(path.stem) for path in (self.run_dir / "checkpoints").glob("*.pt") if path.stem.isdigit())

    def save(self, step: int, state: dict[str, Any], replay: ReplayBuffer | None) -> None:
        """Write the checkpoint at `step` transitions and the replay's new rows, then drop what is no longer needed.

        Raises:
            CheckpointError: no space or no permission; earlier checkpoints are untouched.
        """
        if replay is not None and replay.rows > self.rows:
            columns = replay.rows_since(self.rows)
            first = replay.rows - len(columns["reward"])
            write(self._segment(first, replay.rows), {"format": FORMAT, "columns": columns})
            self.rows = replay.rows
        rows = 0 if replay is None else replay.rows
        write(self.path(step), {"format": FORMAT, "step": step, "replay_rows": rows, **state})
        self._rows_at[step] = rows
        for old in self.steps()[: -self.keep]:
            self.path(old).unlink()
        if replay is not None:
            oldest = self.steps()[0]
            if oldest not in self._rows_at:
                self._rows_at[oldest] = read(self.path(oldest))["replay_rows"]
            for first, last in self._segments():
                if last <= self._rows_at[oldest] - replay.T:
                    self._segment(first, last).unlink()

    def load(self, replay: ReplayBuffer | None = None, warn: Callable[[str], None] = print) -> dict[str, Any]:
        """Return the newest checkpoint that can be read, and fill `replay` as it was then.

        Unreadable newer ones are named by `warn` and passed over.

        Raises:
            CheckpointError: there is none.
        """
        problems = []
        for step in reversed(self.steps()):
            try:
                state = self.translate(read(self.path(step)))
                columns = {} if replay is None else self._columns(state["replay_rows"], replay.T)
            except CheckpointError as error:
                problems.append(str(error))
                continue
            for problem in problems:
                warn(f"{problem}; going on from the one at {step:,} transitions")
            if replay is not None and columns:
                replay.restore(columns, state["replay_rows"])
            self.rows = state["replay_rows"]
            return state
        raise CheckpointError(
            "; ".join(dict.fromkeys(problems)) + "; no older one is left: without it resume begins anew"
            if problems
            else f"got {self.run_dir}, which has no checkpoint yet, wanted one: wait until its run has written it"
        )

    def forget_after(self, step: int) -> None:
        """Put aside what lies beyond `step`, which a resumed run passes over and would write again."""
        for later in self.steps():
            if later > step:
                self.path(later).rename(self.path(later).with_suffix(".unreadable"))
        for first, last in self._segments():
            if first >= self.rows:
                self._segment(first, last).unlink()

    def _columns(self, rows: int, capacity: int) -> dict[str, Tensor]:
        """Return the newest `capacity` rows of a replay memory into which `rows` have been written.

        Raises:
            CheckpointError: a part of it is missing or unreadable.
        """
        parts, have = [], max(0, rows - capacity)
        for first, last in self._segments():
            if first > have or first >= rows:
                break
            if last > have:
                columns = self.translate(read(self._segment(first, last))["columns"])
                parts.append({name: column[have - first : rows - first] for name, column in columns.items()})
                have = min(last, rows)
        if have < rows:
            raise CheckpointError(
                f"got a replay that lacks the rows from {have:,} to {rows:,} in {self.run_dir / 'replay'}, wanted them "
                "all: restore the missing file, or start a new run"
            )
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]} if parts else {}

    def path(self, step: int) -> Path:
        """Return the file of the checkpoint at `step` transitions."""
        return self.run_dir / "checkpoints" / f"{step:012d}.pt"

    def _segment(self, first: int, last: int) -> Path:
        return self.run_dir / "replay" / f"{first:012d}-{last:012d}.pt"

    def _segments(self) -> list[tuple[int, int]]:
        names = [path.stem.split("-") for path in (self.run_dir / "replay").glob("*-*.pt")]
        return sorted((int(first), int(last)) for first, last in names)


def write(path: Path, state: dict[str, Any]) -> None:
    """Write `state` so that `path` holds all of it or what it held before.

    Raises:
        CheckpointError: the disk is full or the place not writable.
    """
    buffer = io.BytesIO()
    torch.save(_map_arrays(state), buffer)
    try:
        replace(path, buffer.getbuffer())
    except CheckpointError as error:
        run_dir = path.parent.parent
        whole = any(run_dir.glob("checkpoints/*.pt"))
        rest = f", and go on with resume={run_dir}, whose earlier checkpoints are whole" if whole else ""
        raise CheckpointError(f"{error}{rest}") from error


def replace(path: Path, content: bytes | memoryview) -> None:
    """Write `content` so that `path` holds all of it or what it held before, also after a loss of power.

    Raises:
        CheckpointError: the disk is full or the place not writable.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        _sync(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        remedy = REMEDIES.get(error.errno or 0, "make the directory writable")
        size = f"{len(content) / 2**10:,.0f} KiB"
        raise CheckpointError(f"got '{error.strerror}' writing {path} ({size}), wanted it saved: {remedy}") from error


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint that `write` wrote.

    Raises:
        CheckpointError: the file is missing, cut short, or not one of ours.
    """
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise CheckpointError(f"got '{error.strerror}' reading {path}, wanted a checkpoint: check the path") from error
    except Exception as error:
        raise CheckpointError(
            f"got {path}, which is cut short or was not written by bayesrl ({type(error).__name__}), wanted a whole "
            "file: restore it or remove it"
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(
            f"got {path}, which another program or version wrote, wanted the format '{FORMAT}': remove it"
        )
    return _map_tensors(state)


def _map_arrays(node: Any) -> Any:
    """NumPy arrays of nested containers as tensors with a mark."""
    if isinstance(node, np.ndarray):
        raw = torch.from_numpy(np.frombuffer(node.tobytes(), np.uint8).copy())
        return {"numpy array": raw, "dtype": node.dtype.str, "shape": list(node.shape)}
    if isinstance(node, dict):
        return {key: _map_arrays(value) for key, value in node.items()}
    return type(node)(map(_map_arrays, node)) if type(node) in (list, tuple) else node


def _map_tensors(node: Any) -> Any:
    """Invert `_map_arrays`."""
    if isinstance(node, dict):
        if "numpy array" in node:
            return np.frombuffer(node["numpy array"].numpy().tobytes(), node["dtype"]).reshape(node["shape"]).copy()
        return {key: _map_tensors(value) for key, value in node.items()}
    return type(node)(map(_map_tensors, node)) if type(node) in (list, tuple) else node


def _sync(directory: Path) -> None:
    """Make a rename durable, where the system lets a directory be synchronized."""
    with contextlib.suppress(OSError):
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
