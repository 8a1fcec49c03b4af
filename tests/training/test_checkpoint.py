"""Checkpoints are whole or absent, hold plain data only, and the replay beside them is complete."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from bayesrl.rl.replay_buffer import ReplayBuffer
from bayesrl.rl.types import EnvSpec, Transition
from bayesrl.training.checkpoint import FORMAT, CheckpointError, Checkpoints, read, replace, write


def replay() -> ReplayBuffer:
    """Of two environments, five rows."""
    return ReplayBuffer(EnvSpec((3,), torch.float32, 2, 2), torch.zeros(1, 0), 10, 1, 0.9)


def add(memory: ReplayBuffer, rows: int) -> None:
    for _ in range(rows):
        value = float(memory.rows)
        no = torch.zeros(2, dtype=torch.bool)
        obs = torch.full((2, 3), value)
        step = Transition(obs, torch.ones(2, dtype=torch.int64), torch.full((2,), value), no, no, obs + 1, ~no)
        memory.add(step, torch.zeros(2, 0))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    state = {
        "format": "bayesrl checkpoint 1", "tensor": torch.arange(3), "array": np.arange(4, dtype=np.uint32),
        "none": None,
        "nested": [1, (2.5, {"a": np.array(3.0)})], "text": "x",
    }  # fmt: skip
    write(tmp_path / "deep" / "a.pt", state)
    back = read(tmp_path / "deep" / "a.pt")
    assert back["array"].dtype == np.uint32 and (back["array"] == state["array"]).all()
    assert torch.equal(back["tensor"], state["tensor"]) and back["nested"][1][1]["a"] == 3.0 and back["none"] is None
    assert os.listdir(tmp_path / "deep") == ["a.pt"]


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


def test_reading_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pt").write_bytes(pickle.dumps(Evil()))
    torch.save(Evil(), tmp_path / "b.pt")
    for name in ("a.pt", "b.pt"):
        with pytest.raises(CheckpointError, match="was not written by bayesrl"):
            read(tmp_path / name)
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 cut short"])
def test_rubbish_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.pt, which is cut short or was not written by bayesrl"):
        read(tmp_path / "a.pt")


def test_another_programs_file_is_named(tmp_path: Path) -> None:
    torch.save({"weights": torch.ones(1)}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="another program or version"):
        read(tmp_path / "a.pt")


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace(tmp_path / "a", b"old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="free some space"):
        replace(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old" and os.listdir(tmp_path) == ["a"]


def test_unwritable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="make the directory writable"):
        replace(tmp_path / "file" / "a", b"new")


def test_rotation_keeps_the_newest_and_the_rows_they_need(tmp_path: Path) -> None:
    memory, store = replay(), Checkpoints(tmp_path, keep=2)
    for step in range(1, 7):
        add(memory, 2)
        store.save(step, {}, memory)
    assert store.steps() == [5, 6]
    assert [first for first, _ in store._segments()] == [4, 6, 8, 10]  # checkpoint 5 saw 10 rows: needs 5 to 10
    back = replay()
    state = Checkpoints(tmp_path).load(back)
    assert state["step"] == 6 and back.rows == 12
    for name, column in memory.columns.items():
        assert torch.equal(column, back.columns[name])


@pytest.mark.parametrize("broken", ["cut", "foreign", "empty"])
def test_an_unreadable_newest_is_passed_over_and_put_aside(broken: str, tmp_path: Path) -> None:
    memory, store = replay(), Checkpoints(tmp_path)
    for step in (1, 2):
        add(memory, 1)
        store.save(step, {}, memory)
    newest = store.path(2)
    whole = newest.read_bytes()
    newest.write_bytes({"cut": whole[: len(whole) // 2], "foreign": b"hello", "empty": b""}[broken])
    told: list[str] = []
    back, store = replay(), Checkpoints(tmp_path)
    assert store.load(back, told.append)["step"] == 1 and back.rows == 1
    assert len(told) == 1 and "000000000002.pt" in told[0] and "going on from the one at 1 transitions" in told[0]
    store.forget_after(1)
    assert store.steps() == [1] and store._segments() == [(0, 1)]
    assert newest.with_suffix(".unreadable").exists()
    add(back, 1)
    store.save(2, {}, back)
    assert Checkpoints(tmp_path).load(replay())["step"] == 2


def test_none_can_be_read(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has no checkpoint"):
        Checkpoints(tmp_path).load()
    store = Checkpoints(tmp_path)
    for step in (1, 2):
        store.save(step, {}, None)
        store.path(step).write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"000000000002\.pt.*; .*000000000001\.pt"):
        store.load()
    assert store.steps() == [1, 2]


def test_a_missing_part_of_the_replay_is_named(tmp_path: Path) -> None:
    memory, store = replay(), Checkpoints(tmp_path)
    for step in (1, 2):
        add(memory, 1)
        store.save(step, {}, memory)
    store._segment(1, 2).unlink()
    told: list[str] = []
    assert store.load(replay(), told.append)["step"] == 1 and "lacks the rows from 1 to 2" in told[0]
    store._segment(0, 1).unlink()
    with pytest.raises(CheckpointError, match="lacks the rows from 0 to 1"):
        store.load(replay())


def test_rows_beyond_the_checkpoint_are_forgotten(tmp_path: Path) -> None:
    memory, store = replay(), Checkpoints(tmp_path)
    add(memory, 2)
    store.save(1, {}, memory)
    store._segment(2, 4).write_bytes(store._segment(0, 2).read_bytes())  # killed between rows and checkpoint
    store = Checkpoints(tmp_path)
    back = replay()
    store.load(back)
    store.forget_after(1)
    assert store._segments() == [(0, 2)] and back.rows == 2


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.array([[b"SF", b"H"]]),
        np.array("text"),
        np.zeros((0, 2)),
        np.array([2**63], "u8"),
    ],
    ids=lambda array: array.dtype.str,
)
def test_arrays_of_every_plain_type_come_back(array: np.ndarray, tmp_path: Path) -> None:
    """Environments keep maps of letters, counters and tables."""
    write(tmp_path / "a.pt", {"format": FORMAT, "inside": [{"array": array}]})
    back = read(tmp_path / "a.pt")["inside"][0]["array"]
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)
