"""A run: a rollout with its evaluations, log rows, checkpoints and reasons to stop.

RUN_DIR/  config.yaml  run.json  metrics.csv  events.out.*  checkpoints/  replay/  result.json
"""

from __future__ import annotations

import json
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from torch import nn
from tqdm import tqdm

from bayesrl.envs.errors import EnvError
from bayesrl.envs.snapshot import capture, restore
from bayesrl.envs.vector.worker import WorkerError
from bayesrl.training.checkpoint import Checkpoints, replace
from bayesrl.training.evaluation import Evaluation, Recording, evaluate
from bayesrl.training.logger import Logger
from bayesrl.training.monitor import Monitor
from bayesrl.training.rng import restore_rng, rng_state
from bayesrl.training.rollout import Rollout
from bayesrl.training.rules import Intervals, SolveRule, StopRule
from bayesrl.training.signals import Interrupted, interruptible
from bayesrl.training.vector_env import VectorEnvAdapter

INTERVAL = 0.2 if sys.stderr.isatty() else 10  # seconds between two looks of a bar


class DivergedError(RuntimeError):
    """The loss is no number any more."""


class TrainingLoop:
    """Train, and leave a directory from which training goes on.

    Arguments:
        run_dir: of the run.
        rollout: agent and environments, at the beginning or restored by `resume`.
        test_envs: for evaluation.
        monitor, logger, checkpoints: watch, write, save.
        intervals: how often.
        seed: of evaluations.
        stop, solve: reasons to end early.
        say: prints a line to the user.
        progress: makes a bar as tqdm does.
    """

    def __init__(
        self,
        run_dir: Path,
        rollout: Rollout,
        test_envs: VectorEnvAdapter,
        monitor: Monitor,
        logger: Logger,
        checkpoints: Checkpoints,
        intervals: Intervals,
        seed: int = 0,
        stop: StopRule | None = None,
        solve: SolveRule | None = None,
        say: Callable[[str], None] = tqdm.write,
        progress: Callable[..., tqdm] = tqdm,
    ) -> None:
        self.run_dir, self.rollout, self.test_envs = run_dir, rollout, test_envs
        self.monitor, self.logger, self.checkpoints = monitor, logger, checkpoints
        self.intervals, self.seed, self.say, self.progress = intervals, seed, say, progress
        self.stop, self.solve = stop or StopRule(), solve
        self.solved_at: int | None = None
        self.seconds = 0.0
        self.saved = -1
        self.signal: int | None = None  # that ended training early
        self.cuts: list[int] = []  # replay rows after which a resumption began new episodes
        self._warned = False
        self._row = (0.0, 0)
        self._due = 0  # transitions at which something happens next
        self.pending = 0  # transitions of the newest step, where a signal cut its evaluation short
        self.drawn = -1
        self.recorded: Recording | None = None  # an episode of the last evaluation

    # --- training ----------------------------------------------------------------------------------------------

    def train(self, steps: int) -> dict:
        """Go on until `steps` transitions in total, or a reason to stop; returns what `result.json` holds.

        A signal ends it at the next boundary, saved, and an evaluation at once, which a resumption begins anew. The
        result then lacks the last evaluation.

        Raises:
            DivergedError: the loss or a parameter is not finite; the last checkpoint is from before.
            EnvError, WorkerError: an environment failed; what was learned before is saved.
        """
        rollout, began, before = self.rollout, time.perf_counter(), self.seconds
        self._row = (began, rollout.transitions)
        bar = self.progress(
            total=None if self.solve else steps,
            initial=rollout.transitions,
            unit=" steps",
            dynamic_ncols=True,
            mininterval=INTERVAL,
        )
        with interruptible(self.interrupt), bar:
            if self.pending:
                self._events(self.pending)
                if not self.pending:
                    self.saved = -1  # for what is saved of this moment has yet to evaluate
                    self.save()
            while not self._done(steps, time.perf_counter() - began):
                with rollout.clock("log"):
                    self.monitor.before(rollout.agent, rollout.envs)
                made = self._step()
                self.seconds = before + time.perf_counter() - began
                with rollout.clock("log"):
                    self.monitor.after(rollout.envs)
                    bar.update(made)
                    if rollout.envs.finished:
                        bar.set_postfix_str(self._postfix(), refresh=False)
                self._events(made)
            with rollout.clock("log"):
                self.save()
        return self._finish()

    def _step(self) -> int:
        rollout = self.rollout
        undecided = rollout.overlap is None
        with self._told(rollout.envs):
            made = rollout.step()
        if undecided and rollout.overlap:
            self.say("learning goes on while the environments step, whose step takes longer than an update")
        return made

    @contextmanager
    def _told(self, envs: VectorEnvAdapter) -> Iterator[None]:
        """Tell of environments that were replaced; save what was learned before one that fails for good."""
        try:
            yield
        except (EnvError, WorkerError) as error:
            self.save(environments=False)
            saved = f"saved at {self.saved:,} transitions, once it is mended go on with resume={self.run_dir}"
            raise type(error)(f"{error}; {saved}") from error
        where = " (evaluation)" if envs is self.test_envs else ""
        for line in envs.broken:
            self.say(f"warning: {line}{where}")
        envs.broken.clear()

    def _done(self, steps: int, seconds: float) -> bool:
        if self.signal is not None or (self.stop.seconds is not None and seconds >= self.stop.seconds):
            return True
        returns = self.monitor.returns
        if self.stop.ret is not None and len(returns) == 100 and sum(returns) / 100 >= self.stop.ret:
            return True
        if self.solve:
            return self.solved_at is not None or self.rollout.episodes >= self.solve.max_episodes
        return self.rollout.transitions >= steps

    def _events(self, made: int) -> None:
        now = self.rollout.transitions
        if now < self._due:
            return
        due = lambda every: every > 0 and now // every > (now - made) // every  # noqa: E731
        intervals, row = self.intervals, {}
        least = intervals.ROW * self.rollout.envs.env.num_envs
        log, draw = max(intervals.log, least), intervals.draw and max(intervals.draw, least)
        try:
            if self.solve and due(self.solve.every) and self._test(self.solve.episodes)[0] >= self.solve.threshold:
                self.solved_at = self.rollout.episodes
            if due(intervals.evaluate):
                row["eval/mean_reward"], row["eval/mean_ep_length"] = self._test(intervals.episodes)
        except Interrupted:
            self.pending = made
            return
        self.pending = 0
        with self.rollout.clock("log"):
            if row or due(log):
                self._log(row)
            if due(draw):
                self._draw()
            if due(intervals.checkpoint):
                self.save()
        rates = (log, draw, intervals.evaluate, intervals.checkpoint, self.solve.every if self.solve else 0)
        self._due = min(every * (now // every + 1) for every in rates if every > 0)

    def _test(self, episodes: int) -> tuple[float, float]:
        seed = self.seed + 1_000_003 * (1 + self.rollout.transitions)
        result = self._evaluate(episodes, seed % 2**31, lambda played: self._look())
        self.recorded = result.first
        return result.mean, float(result.lengths.mean())

    def _look(self) -> None:
        """Leave an evaluation where a signal says so."""
        if self.signal is not None:
            raise Interrupted

    def _evaluate(self, episodes: int, seed: int, tick: Callable[[int], None]) -> Evaluation:
        """Play test episodes; environments that use global generators change nothing of training either."""
        before = rng_state()
        try:
            with self._told(self.test_envs), self.rollout.clock("evaluate"):
                return evaluate(self.rollout.agent, self.test_envs, episodes, seed, tick=tick)
        finally:
            restore_rng(before)

    def _last(self) -> Evaluation | None:
        """The final evaluation, with a bar of its own; None where a signal has ended training, or now ends this."""
        if self.signal is not None:
            return None

        def tick(played: int) -> None:
            bar.update(played - bar.n)
            self._look()

        bar = self.progress(
            total=self.intervals.final_episodes, unit=" test episodes", leave=False, mininterval=INTERVAL
        )
        with interruptible(self.interrupt), bar, suppress(Interrupted):
            return self._evaluate(self.intervals.final_episodes, self.seed + 7, tick)
        return None

    def _log(self, row: dict[str, float]) -> None:
        self._check_finite()
        row = self.monitor.metrics(self.rollout.agent, self.rollout) | row
        then, transitions = self._row
        self._row = (time.perf_counter(), self.rollout.transitions)
        if self._row[1] > transitions:
            row["time/fps"] = (self._row[1] - transitions) / max(self._row[0] - then, 1e-9)
        if row.get("uncertainty/collapsed") and not self._warned:
            self._warned = True
            self.say(
                "warning: the posterior's draws agree to a thousandth; it has collapsed to a point and explores no more"
            )
        self.logger.log(self.rollout.transitions, row)

    def _draw(self) -> None:
        agent, envs, self.drawn = self.rollout.agent, self.rollout.envs, self.rollout.transitions
        pictures = self.monitor.pictures(agent, envs.env.single_observation_space, self.recorded, envs.discount)
        self.logger.draw(self.rollout.transitions, self.monitor.samples(agent), pictures)

    def _check_finite(self) -> None:
        loss, agent, got = self.rollout.info.get("loss"), self.rollout.agent, ""
        if loss is not None and not math.isfinite(loss):
            got = f"the loss {float(loss)}"
        elif isinstance(agent, nn.Module):
            broken = [name for name, p in agent.named_parameters() if not p.isfinite().all()]
            got = f"parameters that are not finite, {broken[0]}," if broken else ""
        if got:
            begins = f"resume={self.run_dir} begins at {self.saved:,} transitions"
            last = begins if self.saved >= 0 else "none was made"
            raise DivergedError(
                f"got {got} after {self.rollout.updates:,} updates, wanted finite numbers: start a new run with a "
                f"lower learning rate, posterior.optimizer.lr (last good checkpoint: {last})"
            )

    def _postfix(self) -> str:
        returns = self.monitor.returns
        value = f"return {sum(returns) / len(returns):.4g}" if returns else "no episode yet"
        epistemic = self.monitor.epistemic
        return f"{value}, epistemic std {epistemic:.3g}" if math.isfinite(epistemic) else value

    # --- saving ------------------------------------------------------------------------------------------------

    def save(self, environments: bool = True) -> None:
        """Write a checkpoint, unless there is one of this moment; without `environments`, new episodes follow."""
        if self.rollout.transitions == self.saved:
            return
        self._check_finite()
        agent = self.rollout.agent
        state = {
            "agent": agent.state_dict(),
            "rollout": self.rollout.state(),
            "monitor": self.monitor.state(),
            "envs": self.rollout.envs.state(capture(self.rollout.envs.env) if environments else None),
            "rng": rng_state(),
            "run": {
                "seconds": self.seconds,
                "solved_at": self.solved_at,
                "cuts": self.cuts,
                "pending": self.pending,
                "info": self.rollout.info,
            },
        }
        self.checkpoints.save(self.rollout.transitions, state, agent.replay)
        self.saved = self.rollout.transitions

    def resume(self, state: dict) -> None:
        """Put back a checkpoint, beside the replay; environments whose state is not known begin new episodes."""
        agent, envs = self.rollout.agent, self.rollout.envs
        agent.load_state_dict(state["agent"])
        self.rollout.restore(state["rollout"])
        self.monitor.restore(state["monitor"])
        self.seconds, self.solved_at = state["run"]["seconds"], state["run"]["solved_at"]
        self.rollout.info, self.cuts = state["run"]["info"], state["run"]["cuts"]
        self.pending = state["run"].get("pending", 0)  # earlier versions finished their evaluations
        self.saved = state["step"]
        if state["envs"]["env"] is not None:
            restore(envs.env, state["envs"]["env"])
            envs.restore(state["envs"])
        else:
            self.say("the environments' state could not be saved: new episodes begin")
            self.monitor.predicted.clear()
            self.cuts = [*self.cuts, state["replay_rows"] - 1]
        if agent.replay is not None:
            for row in self.cuts:  # so that no n-step window reaches from one episode into another
                if row >= max(0, agent.replay.rows - agent.replay.T):
                    agent.replay.columns["done"][row % agent.replay.T] = True
        restore_rng(state["rng"])

    def _finish(self) -> dict:
        rollout = self.rollout
        out: dict[str, Any] = {
            "steps": rollout.transitions,
            "episodes": rollout.episodes,
            "eval_return_mean": None,
            "eval_return_ci": None,
            "seconds": round(self.seconds, 3),
        }
        result = self._last()
        if self.signal is not None:
            self.say(f"{signal.Signals(self.signal).name}: saved at {rollout.transitions:,} transitions")
        if result is not None:
            out |= {
                "eval_return_mean": result.mean,
                "eval_return_ci": list(result.interval()) if len(result.returns) > 1 else None,
            }
            if self.logger.last_step < rollout.transitions:
                self._log({"eval/mean_reward": result.mean, "eval/mean_ep_length": float(result.lengths.mean())})
            ended = {"final/return": result.mean, "final/hours": self.seconds / 3600}
            ended |= {} if self.solved_at is None else {"final/episodes_to_solve": self.solved_at}
            self.logger.conclude(rollout.transitions, ended)
            self.recorded = result.first
            if self.intervals.draw and self.drawn < rollout.transitions:
                self._draw()
        if self.solve:
            out["episodes_to_solve"] = self.solved_at
        replace(self.run_dir / "result.json", (json.dumps(out, indent=2) + "\n").encode())
        total = sum(rollout.clock.seconds.values()) or 1.0
        shares = {part: s / total for part, s in rollout.clock.seconds.items()}
        slowest = max(shares, key=lambda part: shares[part])
        self.say(
            "time: " + ", ".join(f"{part} {share:.0%}" for part, share in shares.items()) + f"; bottleneck: {slowest}"
        )
        if result is None:
            self.say(f"go on with: python -m bayesrl.train resume={self.run_dir}")
            return out
        self.say(f"greedy return of {result.played}: {result.told()}")
        if self.solve:
            self.say(f"episodes to solve: {self.solved_at if self.solved_at is not None else 'not solved'}")
        return out

    def close(self) -> None:
        """Let go of files and environments."""
        self.logger.close()
        for envs in (self.rollout.envs, self.test_envs):
            with suppress(Exception):  # a worker that has died cannot be closed
                envs.env.close()

    def interrupt(self, number: int) -> None:
        """End training at the next boundary, saved, for a signal's sake."""
        self.signal = number
