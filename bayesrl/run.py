"""A run: a rollout with its evaluations, log rows, checkpoints and reasons to stop.

    RUN_DIR/  config.yaml  run.json  metrics.csv  events.out.*  checkpoints/  replay/  result.json
"""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch
from tqdm import tqdm

from bayesrl.checkpoint import CheckpointError, Checkpoints
from bayesrl.envs.state import capture, restore
from bayesrl.evaluation import evaluate
from bayesrl.logger import Logger
from bayesrl.rollout import Environments, Rollout
from bayesrl.tracker import Tracker


class DivergedError(RuntimeError):
    """The loss is no number any more."""


@dataclass
class Cadence:
    """How often things happen, in transitions; and how many episodes an evaluation plays."""

    log: int = 1000
    checkpoint: int = 5000
    evaluate: int = 5000
    episodes: int = 10
    final_episodes: int = 100

    def __post_init__(self) -> None:
        for name in ("log", "checkpoint", "episodes", "final_episodes"):
            if getattr(self, name) < 1:
                raise ValueError(f"got {name}={getattr(self, name)}, wanted at least 1")
        if self.evaluate < 0:
            raise ValueError(f"got evaluate={self.evaluate}, wanted transitions between evaluations, or 0 for none")


@dataclass
class Stop:
    """Reasons to stop before `steps`: wall seconds of this session, mean return of 100 training episodes."""

    seconds: float | None = None
    ret: float | None = None


@dataclass
class Solve:
    """A task is solved at the first test whose `episodes` greedy returns average `threshold`; the run stops there.

    Arguments:
        every: transitions between tests.
        episodes: of a test.
        threshold: least mean return that counts as solved.
        max_episodes: training episodes after which the run has failed.
    """

    every: int = 1000
    episodes: int = 100
    threshold: float = 0.99
    max_episodes: int = 10_000


class Run:
    """Train, and leave a directory from which training goes on.

    Arguments:
        run_dir: of the run.
        rollout: agent and environments, at the beginning or restored by `resume`.
        test_envs: for evaluation.
        tracker, logger, checkpoints: watch, write, save.
        cadence: how often.
        seed: of evaluations.
        stop, solve: reasons to end early.
        say: prints a line to the user.
    """

    def __init__(
        self,
        run_dir: Path,
        rollout: Rollout,
        test_envs: Environments,
        tracker: Tracker,
        logger: Logger,
        checkpoints: Checkpoints,
        cadence: Cadence,
        seed: int = 0,
        stop: Stop | None = None,
        solve: Solve | None = None,
        say: Callable[[str], None] = tqdm.write,
    ) -> None:
        self.run_dir, self.rollout, self.test_envs = run_dir, rollout, test_envs
        self.tracker, self.logger, self.checkpoints = tracker, logger, checkpoints
        self.cadence, self.seed, self.say = cadence, seed, say
        self.stop, self.solve = stop or Stop(), solve
        self.solved_at: int | None = None
        self.seconds = 0.0
        self.saved = -1
        self.starting = True
        self.signal: int | None = None
        self._warned = False
        self._row = (0.0, 0)

    # --- training ----------------------------------------------------------------------------------------------

    def train(self, steps: int) -> dict:
        """Go on until `steps` transitions in total, or a reason to stop; returns what `result.json` holds.

        Raises:
            DivergedError: the loss is not finite; the last checkpoint is from before.
        """
        rollout, began, before = self.rollout, time.perf_counter(), self.seconds
        self._row = (began, rollout.transitions)
        total = None if self.solve else steps
        bar = tqdm(total=total, initial=rollout.transitions, unit=" steps", dynamic_ncols=True, mininterval=0.2)
        with self._interruptible(), bar:
            while not self._done(steps, time.perf_counter() - began):
                with rollout.clock("log"):
                    self.tracker.before(rollout.agent, rollout.envs, self.starting)
                made = rollout.step()
                self.starting = bool(rollout.envs.start.any())
                self.seconds = before + time.perf_counter() - began
                with rollout.clock("log"):
                    self.tracker.after(rollout.envs)
                    bar.update(made)
                    if rollout.envs.finished:
                        bar.set_postfix_str(self._postfix(), refresh=False)
                    self._events(made)
            with rollout.clock("log"):
                self.save()
        return self._finish()

    def _done(self, steps: int, seconds: float) -> bool:
        if self.signal is not None or (self.stop.seconds is not None and seconds >= self.stop.seconds):
            return True
        returns = self.tracker.returns
        if self.stop.ret is not None and len(returns) == 100 and sum(returns) / 100 >= self.stop.ret:
            return True
        if self.solve:
            return self.solved_at is not None or self.rollout.episodes >= self.solve.max_episodes
        return self.rollout.transitions >= steps

    def _events(self, made: int) -> None:
        now = self.rollout.transitions
        due = lambda every: every > 0 and now // every > (now - made) // every  # noqa: E731
        row = {}
        if self.solve and due(self.solve.every) and self._test(self.solve.episodes)[0] >= self.solve.threshold:
            self.solved_at = self.rollout.episodes
        if due(self.cadence.evaluate):
            row["eval/mean_reward"], row["eval/mean_ep_length"] = self._test(self.cadence.episodes)
        if row or due(self.cadence.log):
            self._log(row)
        if due(self.cadence.checkpoint):
            self.save()

    def _test(self, episodes: int) -> tuple[float, float]:
        seed = self.seed + 1_000_003 * (1 + self.rollout.transitions)
        result = evaluate(self.rollout.agent, self.test_envs, episodes, seed % 2**31)
        return result.mean, float(result.lengths.mean())

    def _log(self, row: dict[str, float]) -> None:
        self._check_loss()
        row = self.tracker.metrics(self.rollout.agent, self.rollout) | row
        then, transitions = self._row
        self._row = (time.perf_counter(), self.rollout.transitions)
        row["time/fps"] = (self._row[1] - transitions) / max(self._row[0] - then, 1e-9)
        if row.get("uncertainty/collapsed") and not self._warned:
            self._warned = True
            self.say("warning: the posterior's draws agree to a thousandth; it has collapsed to a point and explores no more")
        self.logger.log(self.rollout.transitions, row)

    def _check_loss(self) -> None:
        loss = self.rollout.info.get("loss")
        if loss is not None and not math.isfinite(loss):
            raise DivergedError(
                f"got the loss {float(loss)} after {self.rollout.updates:,} updates, wanted a finite number: lower the "
                f"learning rate, posterior.optimizer.lr; the last good checkpoint is "
                f"{f'at {self.saved:,} transitions' if self.saved >= 0 else 'none'}"
            )

    def _postfix(self) -> str:
        returns = self.tracker.returns
        value = f"return {sum(returns) / len(returns):.4g}" if returns else "no episode yet"
        return f"{value}, epistemic std {self.tracker.start[3]:.3g}"

    # --- saving ------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write a checkpoint, unless there is one of this moment or the loss is not finite."""
        if self.rollout.transitions == self.saved:
            return
        self._check_loss()
        agent = self.rollout.agent
        state = {
            "agent": agent.state_dict(),
            "rollout": self.rollout.state(),
            "tracker": self.tracker.state(),
            "envs": self.rollout.envs.state(capture(self.rollout.envs.env)),
            "rng": rng_state(),
            "run": {"seconds": self.seconds, "solved_at": self.solved_at, "starting": self.starting},
        }
        self.checkpoints.save(self.rollout.transitions, state, agent.replay)
        self.saved = self.rollout.transitions

    def resume(self, state: dict) -> None:
        """Put back a checkpoint; the environments, where their state is not known, begin new episodes."""
        agent, envs = self.rollout.agent, self.rollout.envs
        agent.load_state_dict(state["agent"])
        if agent.replay is not None:
            self.checkpoints.load_replay(agent.replay, state["replay_rows"])
        self.rollout.restore(state["rollout"])
        self.tracker.restore(state["tracker"])
        self.seconds, self.solved_at = state["run"]["seconds"], state["run"]["solved_at"]
        self.saved = state["step"]
        if state["envs"]["env"] is not None:
            restore(envs.env, state["envs"]["env"])
            envs.restore(state["envs"])
            self.starting = state["run"]["starting"]
        else:
            self.say("the environments' state cannot be saved: new episodes begin")
        restore_rng(state["rng"])

    def _finish(self) -> dict:
        rollout = self.rollout
        result = evaluate(rollout.agent, self.test_envs, self.cadence.final_episodes, self.seed + 7)
        if self.logger.last_step < rollout.transitions:
            self._log({"eval/mean_reward": result.mean, "eval/mean_ep_length": float(result.lengths.mean())})
        out = {
            "steps": rollout.transitions,
            "episodes": rollout.episodes,
            "eval_return_mean": result.mean,
            "eval_return_ci": list(result.interval()),
            "seconds": round(self.seconds, 3),
        }
        if self.solve:
            out["episodes_to_solve"] = self.solved_at
        replace_text(self.run_dir / "result.json", json.dumps(out, indent=2) + "\n")
        total = sum(rollout.clock.seconds.values()) or 1.0
        shares = {part: s / total for part, s in rollout.clock.seconds.items()}
        slowest = max(shares, key=lambda part: shares[part])
        self.say("time: " + ", ".join(f"{part} {share:.0%}" for part, share in shares.items()) + f"; bottleneck: {slowest}")
        low, high = out["eval_return_ci"]
        self.say(f"greedy return of {self.cadence.final_episodes} episodes: {result.mean:.4g} (95 % interval {low:.4g} to {high:.4g})")
        if self.solve:
            self.say(f"episodes to solve: {self.solved_at if self.solved_at is not None else 'not solved'}")
        return out

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """SIGINT and SIGTERM end training at the next boundary, where it is saved; a second one ends it at once."""

        def note(number: int, frame: FrameType | None) -> None:
            self.signal = number
            self.say(f"{signal.Signals(number).name}: saving, then stopping; once more to stop at once")
            signal.signal(number, old[number])

        old = {}
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                old[number] = signal.signal(number, note)
        except ValueError:  # not in the main thread
            pass
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)


def replace_text(path: Path, text: str) -> None:
    """Write a text file so that it holds all of `text` or what it held before."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(text)
        os.replace(part, path)
    except OSError as error:
        raise CheckpointError(f"got '{error.strerror}' writing {path}, wanted it saved: free some space") from error


def rng_state() -> dict:
    """torch's global generators."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"torch": torch.get_rng_state(), "cuda": cuda}


def restore_rng(state: dict) -> None:
    """Put back what `rng_state` gave."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
