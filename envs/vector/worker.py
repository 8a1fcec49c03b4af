"""The worker process: an environment, named in its errors, that never outlives its parent."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import reprlib
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector.utils import concatenate, create_empty_array

from bayesrl.envs.state import load_state, save_state

GRACE = 5.0  # seconds in which a worker that is told to end may close its environment
FRAMES = 6  # of an exception that a message lists


class WorkerError(RuntimeError):
    """An exception of one environment, here or in a worker: its index, id, pid and where it was are in the message."""


@dataclass(frozen=True)
class Creator:
    """Builds environment `index`, here or in a worker; plain data, so that every start method can send it.

    Attributes:
        single: (env_id, kwargs, imports) -> gym.Env.
        name: of the environment, in words.
    """

    single: Callable[..., gym.Env]
    index: int
    name: str
    env_id: Any
    kwargs: dict
    imports: Sequence[str]

    def __call__(self) -> gym.Env:
        return Named(self.single(self.env_id, self.kwargs, self.imports), self.index, self.name)


class Named(gym.Wrapper):
    """Lets an exception say which environment it came from; as plain text, which every process can read.

    What `reset` and `step` return is held to its form at every call, an array's shape included.
    """

    def __init__(self, env: gym.Env, index: int, name: str) -> None:
        super().__init__(env)
        self.index, self.name = index, name
        self.shape = env.observation_space.shape if isinstance(env.observation_space, Box) else None

    def reset(self, **arguments):
        return self._call("reset", 2, "(obs, info)", lambda: self.env.reset(**arguments))

    def step(self, action):
        return self._call("step", 5, "(obs, reward, terminated, truncated, info)", lambda: self.env.step(action))

    def _call(self, call: str, length: int, form: str, function: Callable) -> tuple:
        try:
            result = function()
        except Exception as error:
            raise WorkerError(f"{call} of {self._called()} raised {raised(error)}") from error
        if not isinstance(result, tuple) or len(result) != length:
            raise WorkerError(
                f"got {reprlib.repr(result)} from {call} of {self._called()}, wanted {form}: mend its {call}"
            )
        if self.shape is not None and np.shape(result[0]) != self.shape:
            raise WorkerError(
                f"got an observation of shape {[*np.shape(result[0])]} from {call} of {self._called()}, wanted "
                f"{[*self.shape]} as its observation_space says: mend its {call}"
            )
        return result

    def _called(self) -> str:
        return called(self.index, self.name, os.getpid())


def called(index: int, name: str, pid: int) -> str:
    """Return the name of an environment for a message."""
    return f"environment {index} ({name}, pid {pid})"


def serve(index: int, name: str, creator: Callable[[], gym.Env], pipe: Connection) -> None:
    """Answer each (command, argument) with (answer, None), and the one that raises with (None, why), which is the last.

    Ctrl-C is the parent's to handle. A worker that is told to end closes its environment first, because that may be a
    simulator with processes of its own; so does one whose parent is gone, even while a step hangs.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    env = None
    try:
        env = creator()
        space = env.observation_space
        scratch: Any = create_empty_array(space, 1)
        while True:
            command, argument = pipe.recv()
            answer: Any = None
            if command == "close":
                break
            if command == "describe":
                answer = space, env.action_space, env.metadata, env.render_mode
            elif command == "reset":
                answer = env.reset(**argument)
            elif command == "step":
                answer = _step(env, argument)
            elif command == "save_state":
                answer = save_state(env)
            elif command == "load_state":
                load_state(env, argument)
            if command in ("reset", "step"):
                concatenate(space, [answer[0]], scratch)  # one that does not fit raises here, where its name is known
            pipe.send((answer, None))
    except Exception as error:
        own = isinstance(error, WorkerError)
        why = str(error) if own else f"{called(index, name, os.getpid())} raised {raised(error)}"
        with contextlib.suppress(OSError):
            pipe.send((None, why))
    finally:
        if env is not None:
            env.close()


def raised(error: Exception) -> str:
    """Return an exception in one line, with its last `FRAMES` stack frames, outermost first."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename != __file__ and "/gymnasium/" not in frame.filename] or frames
    places = " > ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in own[-FRAMES:])
    return f"{type(error).__name__}: {' '.join(str(error).split())} ({places})"


def _step(env: gym.Env, action: Any) -> tuple:
    obs, reward, terminated, truncated, info = env.step(action)
    if terminated or truncated:
        final = {"final_obs": obs, "final_info": info}
        obs, info = env.reset()
        info = final | info
    return obs, reward, terminated, truncated, info


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # this is a worker
    multiprocessing.connection.wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)
