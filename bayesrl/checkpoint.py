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

from bayesrl.replay import Replay

FORMAT = "bayesrl checkpoint 1"


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written or read; the message says which and what to do."""


class Checkpoints:
    """The checkpoints of one run.

    Arguments:
        run_dir: of the run.
        keep: how many are kept.
    """

    def __init__(self, run_dir: Path, keep: int = 3) -> None:
        if keep < 1:
            raise ValueError(f"got checkpoint.keep={keep}, wanted at least 1")
        self.run_dir, self.keep = run_dir, keep
        self.rows = 0  # replay rows already on disk

    def steps(self) -> list[int]:
        """Transitions of the checkpoints on disk, oldest first."""
        return sorted(int(path.stem) for path in (self.run_dir / "checkpoints").glob("*.pt") if path.stem.isdigit())

    def save(self, step: int, state: dict[str, Any], replay: Replay | None) -> None:
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
        write(self._path(step), {"format": FORMAT, "step": step, "replay_rows": rows, **state})
        for old in self.steps()[: -self.keep]:
            self._path(old).unlink()
        if replay is not None:
            needed = min(rows, read(self._path(self.steps()[0]))["replay_rows"]) - replay.T
            for first, last in self._segments():
                if last <= needed:
                    self._segment(first, last).unlink()

    def load(self, warn: Callable[[str], None] = print) -> dict[str, Any]:
        """The newest checkpoint that can be read; unreadable newer ones are named by `warn` and passed over.

        Raises:
            CheckpointError: there is none.
        """
        problems = []
        for step in reversed(self.steps()):
            try:
                state = read(self._path(step))
            except CheckpointError as error:
                problems.append(str(error))
                continue
            for problem in problems:
                warn(f"{problem}; going on from the one at {step:,} transitions")
            return state
        raise CheckpointError(
            "; ".join(problems) or f"got {self.run_dir}, which has no checkpoint, wanted a run directory of bayesrl.train"
        )

    def load_replay(self, replay: Replay, rows: int) -> None:
        """Fill the replay as it was when it had seen `rows` rows, and forget what was stored beyond.

        Raises:
            CheckpointError: a part of it is missing or unreadable.
        """
        parts, have = [], max(0, rows - replay.T)
        for first, last in self._segments():
            if first >= rows:
                self._segment(first, last).unlink()
            elif last > have:
                if first > have:
                    break
                columns = read(self._segment(first, last))["columns"]
                parts.append({name: column[have - first : rows - first] for name, column in columns.items()})
                have = min(last, rows)
        if have < rows:
            raise CheckpointError(
                f"got a replay that lacks the rows from {have:,} to {rows:,} in {self.run_dir / 'replay'}, wanted them all: "
                "restore the missing file, or start a new run"
            )
        if parts:
            replay.restore({name: torch.cat([part[name] for part in parts]) for name in parts[0]}, rows)
        self.rows = rows

    def forget_after(self, step: int) -> None:
        """Remove checkpoints beyond `step`: unreadable ones that a resumed run passes over."""
        for later in self.steps():
            if later > step:
                self._path(later).unlink()

    def _path(self, step: int) -> Path:
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
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        _sync(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        remedy = "free some space" if error.errno == errno.ENOSPC else "make the directory writable"
        raise CheckpointError(
            f"got '{error.strerror}' writing {path} ({buffer.tell() / 2**20:.1f} MiB), wanted it saved: {remedy} and go on "
            f"with resume={path.parent.parent}; earlier checkpoints are whole"
        ) from error


def read(path: Path) -> dict[str, Any]:
    """What `write` wrote.

    Raises:
        CheckpointError: the file is missing, cut short, or not one of ours.
    """
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except OSError as error:
        raise CheckpointError(f"got '{error.strerror}' reading {path}, wanted a checkpoint: check the path") from error
    except Exception as error:
        raise CheckpointError(
            f"got {path}, which is cut short or not a checkpoint ({type(error).__name__}), wanted one that bayesrl wrote: "
            "remove it"
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"got {path}, which another program or version wrote, wanted the format '{FORMAT}': remove it")
    return _map_tensors(state)


def _map_arrays(node: Any) -> Any:
    """NumPy arrays of nested containers as tensors with a mark."""
    if isinstance(node, np.ndarray):
        return {"numpy array": torch.from_numpy(np.array(node))}
    if isinstance(node, dict):
        return {key: _map_arrays(value) for key, value in node.items()}
    return type(node)(map(_map_arrays, node)) if type(node) in (list, tuple) else node


def _map_tensors(node: Any) -> Any:
    """What `_map_arrays` was given."""
    if isinstance(node, dict):
        marked = node.keys() == {"numpy array"}
        return node["numpy array"].numpy() if marked else {key: _map_tensors(value) for key, value in node.items()}
    return type(node)(map(_map_tensors, node)) if type(node) in (list, tuple) else node


def _sync(directory: Path) -> None:
    """Make a rename durable, where the system lets a directory be synchronised."""
    with contextlib.suppress(OSError):
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
