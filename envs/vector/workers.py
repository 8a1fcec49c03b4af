"""Environments in worker processes, stepped side by side and replaced where they break."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
import warnings
from collections import deque
from collections.abc import Iterable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import (
    CloudpickleWrapper,
    batch_space,
    clear_mpi_env_vars,
    concatenate,
    create_empty_array,
    iterate,
)

from bayesrl.envs.vector.worker import GRACE, Creator, WorkerError, called, serve

WINDOW = 1000  # steps over which the replacements of an environment are counted


class Workers(VectorEnv):
    """E environments, each in a process of its own, reset in the step that ends an episode (SAME_STEP).

    One that raises, dies or does not answer in time is replaced, and a new episode begins in its place: that step gives
    the new episode's first observation, reward 0, no end, and infos["broken"], {index: why in a sentence}. Between
    `step_async` and `step_wait` the caller may do other work.

    Arguments:
        creators: of the environments.
        timeout: seconds for an answer, also when it builds or resets; None to wait for ever.
        restarts: how often one environment may be replaced within WINDOW steps.

    Raises:
        WorkerError: an environment broke more often, or a first one could not be built; why, and where.
    """

    def __init__(self, creators: Sequence[Creator], timeout: float | None = None, restarts: int = 0) -> None:
        self.creators, self.timeout, self.restarts = creators, timeout, restarts
        self.num_envs, self.steps = len(creators), 0
        self.seed: int | None = None
        self.breaks = [deque[int](maxlen=restarts + 1) for _ in creators]  # the steps of the newest ones
        self.broke = [0] * self.num_envs  # ever
        self.context = multiprocessing.get_context()
        self.pipes: list[Connection] = [None] * self.num_envs  # type: ignore[list-item]  # filled by `_start`
        self.processes: list[Any] = [None] * self.num_envs
        for i in range(self.num_envs):
            self._start(i)
        about = self._ask("describe", [None] * self.num_envs)
        self.single_observation_space, self.single_action_space, metadata, self.render_mode = about[0]
        for i, (observation_space, action_space, *_) in enumerate(about):
            if (observation_space, action_space) != about[0][:2]:
                raise WorkerError(
                    f"got the spaces {observation_space} and {action_space} of environment {i}, wanted those of "
                    f"environment 0, {about[0][0]} and {about[0][1]}: build all alike"
                )
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.metadata = {**metadata, "autoreset_mode": AutoresetMode.SAME_STEP}

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        self.seed = seed
        for i in range(self.num_envs):
            self._send(i, "reset", {"seed": None if seed is None else seed + i, "options": options})
        answers, why = self._collect()
        obs, infos = zip(*answers, strict=True)
        return self._batch(obs), self._infos(infos, why)

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict]:
        self.step_async(actions)
        return self.step_wait()

    def step_async(self, actions: Any) -> None:
        """Send actions [E]; `step_wait` gives what `step` would."""
        for i, action in enumerate(iterate(self.action_space, actions)):
            self._send(i, "step", action)

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict]:
        self.steps += 1
        answers, why = self._collect()
        for i in why:
            obs, info = answers[i]
            answers[i] = obs, 0.0, False, False, info
        obs, reward, terminated, truncated, infos = zip(*answers, strict=True)
        ends = np.array(terminated, bool), np.array(truncated, bool)
        return self._batch(obs), np.array(reward, np.float64), *ends, self._infos(infos, why)

    def save_state(self) -> dict | None:
        """Return what `load_state` puts back, in plain values; None where an environment's state cannot be read."""
        try:
            states = self._ask("save_state", [None] * self.num_envs)
        except WorkerError:
            return None
        return None if None in states else {"envs": states, "steps": self.steps, "broke": list(self.broke)}

    def load_state(self, state: dict) -> None:
        self._ask("load_state", state["envs"])
        self.steps, self.broke = state["steps"], list(state["broke"])

    def close_extras(self, **_: Any) -> None:
        for i in range(self.num_envs):
            if self.processes[i] is not None:
                self._send(i, "close", None)
        deadline = time.monotonic() + GRACE
        for i, process in enumerate(self.processes):
            if process is not None:
                process.join(max(0.0, deadline - time.monotonic()))
                self._stop(i)

    # --- inside ------------------------------------------------------------------------------------------------

    def _start(self, i: int) -> None:
        self.pipes[i], theirs = self.context.Pipe()
        creator = self.creators[i]
        given = (i, creator.name, CloudpickleWrapper(creator), theirs)
        with clear_mpi_env_vars(), warnings.catch_warnings():
            # Python's warning of forking beside threads: the child runs none of them, and one that hangs is replaced.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.processes[i] = self.context.Process(target=serve, args=given, daemon=True)  # type: ignore[attr-defined]
            self.processes[i].start()
        theirs.close()

    def _stop(self, i: int) -> None:
        process = self.processes[i]
        if process.is_alive():
            process.terminate()
            process.join(GRACE)
            process.kill()
        process.join()
        self.pipes[i].close()

    def _send(self, i: int, command: str, argument: Any) -> None:
        with contextlib.suppress(OSError):  # one that is dead is found when it does not answer
            self.pipes[i].send((command, argument))

    def _answer(self, i: int, deadline: float | None) -> Any:
        """Raises _Broken, which says why there is none."""
        process = self.processes[i]
        who = called(i, self.creators[i].name, process.pid)
        try:
            if not self.pipes[i].poll(None if deadline is None else max(0.0, deadline - time.monotonic())):
                raise _Broken(f"{who} did not answer within the timeout of {self.timeout:g} s")
            answer, wrong = self.pipes[i].recv()
        except (EOFError, OSError) as error:
            process.join(GRACE)  # its pipe closes a moment before it has an exit code
            raise _Broken(f"{who} {_ending(process.exitcode)}") from error
        if wrong:
            raise _Broken(wrong)
        return answer

    def _deadline(self) -> float | None:
        return None if self.timeout is None else time.monotonic() + self.timeout

    def _ask(self, command: str, arguments: Iterable) -> list:
        """Everyone's answer, where one that breaks cannot be replaced at once; the next step finds it dead."""
        for i, argument in enumerate(arguments):
            self._send(i, command, argument)
        deadline, answers, broken = self._deadline(), [], {}
        for i in range(self.num_envs):
            try:
                answers.append(self._answer(i, deadline))
            except _Broken as why:
                broken[i] = str(why)
        if broken:
            for i in broken:
                self._stop(i)
            raise WorkerError("\n".join(broken.values()))
        return answers

    def _collect(self) -> tuple[list, dict[int, str]]:
        """Everyone's answer, or that of its successor to a reset; and why it has one, by index."""
        answers: dict[int, Any] = {}
        reasons: dict[int, str] = {}
        waiting: Iterable[int] = range(self.num_envs)
        while waiting:
            deadline, broken = self._deadline(), {}
            for i in waiting:
                try:
                    answers[i] = self._answer(i, deadline)
                except _Broken as why:
                    broken[i] = str(why)
            reasons |= self._judge(broken)
            for i in broken:
                self._stop(i)
                self._start(i)
                self._send(i, "reset", {"seed": self._fresh_seed(i)})
            waiting = list(broken)
        return [answers[i] for i in range(self.num_envs)], reasons

    def _judge(self, broken: dict[int, str]) -> dict[int, str]:
        """Return the messages of workers that may be replaced once more; raise WorkerError if one may not."""
        reasons, over = {}, []
        for i, why in broken.items():
            self.breaks[i].append(self.steps)
            self.broke[i] += 1
            times = sum(step > self.steps - WINDOW for step in self.breaks[i])
            reasons[i] = f"{why}; it is replaced, {times} of at most {self.restarts} times within {WINDOW:,} steps"
            if times > self.restarts:
                often = f", {times} times within {WINDOW:,} steps, wanted at most restarts={self.restarts}"
                over.append(why + (often if self.restarts else ""))
        if over:
            raise WorkerError("\n".join(over))
        return reasons

    def _fresh_seed(self, i: int) -> int | None:
        if self.seed is None:
            return None
        return int(np.random.SeedSequence((self.seed, i, self.broke[i])).generate_state(1)[0])

    def _batch(self, obs: Sequence) -> Any:
        space = self.single_observation_space
        empty: Any = create_empty_array(space, self.num_envs)
        return concatenate(space, obs, empty)

    def _infos(self, infos: Sequence[dict], why: dict[int, str]) -> dict:
        out: dict = {}
        for i, info in enumerate(infos):
            out = self._add_info(out, info, i)
        return {**out, "broken": why} if why else out


class _Broken(Exception):
    """An environment without an answer: a sentence that names it."""


def _ending(exitcode: int | None) -> str:
    if exitcode is None:
        return "closed its pipe"
    if exitcode >= 0:
        return f"ended with exit code {exitcode}"
    return f"was killed by {signal.Signals(-exitcode).name}"
