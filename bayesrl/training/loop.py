"""The training loop: a rollout with its evaluations, log rows, checkpoints, callbacks and reasons to stop.

RUN_DIR/  config.yaml  run.json  metrics.csv  events.out.*  checkpoints/  replay/  result.json
"""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bayesrl.envs.errors import EnvError
from bayesrl.envs.vector.worker import WorkerError
from bayesrl.training.callbacks import CallbackList, CheckpointContext, Context, EpisodeContext, EvaluationContext
from bayesrl.training.checkpoint import Checkpoints, replace
from bayesrl.training.divergence import check_finite
from bayesrl.training.evaluation import Evaluation, Recording, evaluate
from bayesrl.training.logger import Logger
from bayesrl.training.monitor import Monitor
from bayesrl.training.progress import printer, progress_bar
from bayesrl.training.rng import preserved_rng
from bayesrl.training.rollout import Rollout
from bayesrl.training.rules import Intervals, SolveRule, StopRule
from bayesrl.training.signals import Interrupted, interruptible
from bayesrl.training.state import restore_training, training_state
from bayesrl.training.vector_env import VectorEnvAdapter


class TrainingLoop:
    """Train, and leave a directory from which training goes on.

    Arguments:
        run_dir: directory of the run.
        rollout: agent and environments, at the beginning or restored by `resume`.
        test_envs: environments for evaluation. Where they hold the very environment that is trained in, evaluations
            wait for the end of an episode, and a new one begins afterwards.
        monitor, logger, checkpoints: observe, write and save the run.
        intervals: transitions between log rows, drawings, checkpoints and evaluations.
        seed: seed of evaluations.
        stop, solve: reasons to end early.
        callbacks: watch the run, and may end it.
        show: whether progress bars and lines are printed.

    Attributes:
        signal: number of the signal that ended training early, or None.
        metrics: the newest row of the log, values by tag.
        saved_at: transitions of the newest checkpoint, -1 before the first.
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
        callbacks: CallbackList | None = None,
        show: bool = True,
    ) -> None:
        self.run_dir, self.rollout, self.test_envs = run_dir, rollout, test_envs
        self.monitor, self.logger, self.checkpoints = monitor, logger, checkpoints
        self.intervals, self.seed = intervals, seed
        self.stop, self.solve = stop or StopRule(), solve
        self.callbacks = callbacks or CallbackList([])
        self.say, self.progress = printer(show), progress_bar(show)
        self.shared = test_envs.env is rollout.envs.env
        self.signal: int | None = None
        self.solved_at: int | None = None
        self.seconds = 0.0
        self.metrics: dict[str, float] = {}
        self.saved_at = self.drawn_at = -1
        self.cuts: list[int] = []  # replay rows after which a resumption began new episodes
        self.pending = 0  # transitions of the newest step, where a signal cut its evaluation short
        self.postponed: set[str] = set()  # evaluations that wait for the end of an episode
        self.recording: Recording | None = None  # an episode of the last evaluation
        self._next_event = 0  # transitions at which something happens next
        self._last_row = (0.0, 0)  # time and transitions
        self._warned = False

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
        self._last_row = (began, rollout.transitions)
        bar = self.progress(total=None if self.solve else steps, initial=rollout.transitions, unit=" steps")
        with interruptible(self.interrupt), bar:
            if self.pending:
                self._events(self.pending)
                if not self.pending:
                    self.saved_at = -1  # the checkpoint of this moment has yet to evaluate
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
                if self.callbacks.wants("on_episode"):
                    for episode in rollout.envs.finished:
                        self._call("on_episode", EpisodeContext, episode=episode)
                self._events(made)
                self._call("on_step", Context)
            with rollout.clock("log"):
                self.save()
        return self._finish()

    def _step(self) -> int:
        rollout = self.rollout
        undecided = rollout.overlap is None
        with self._reporting(rollout.envs):
            made = rollout.step()
        if undecided and rollout.overlap:
            self.say("learning goes on while the environments step, whose step takes longer than an update")
        return made

    @contextmanager
    def _reporting(self, envs: VectorEnvAdapter) -> Iterator[None]:
        """Report environments that were replaced; save what was learned before one that fails for good."""
        try:
            yield
        except (EnvError, WorkerError) as error:
            self.save(environments=False)
            saved = f"saved at {self.saved_at:,} transitions, once it is mended go on with resume={self.run_dir}"
            raise type(error)(f"{error}; {saved}") from error
        where = " (evaluation)" if envs is self.test_envs else ""
        for line in envs.failures:
            self.say(f"warning: {line}{where}")
        envs.failures.clear()

    def _call(self, hook: str, context: type[Context], **facts: Any) -> None:
        """Call the callbacks; the run is saved before an exception of theirs goes on."""
        if not self.callbacks.wants(hook):
            return
        rollout = self.rollout
        counts = (rollout.transitions, rollout.episodes, rollout.updates)
        try:
            self.callbacks.call(hook, context(self.run_dir, *counts, rollout.agent, self.metrics, **facts))
        except BaseException as error:  # an exit and a KeyboardInterrupt of theirs among them
            self.save(notify=False)
            self._note_saved(error)
            raise

    def _note_saved(self, error: BaseException) -> None:
        error.add_note(f"The run is saved at {self.saved_at:,} transitions: go on with resume={self.run_dir}")

    def _done(self, steps: int, seconds: float) -> bool:
        if self.signal is not None or self.callbacks.stopped_by is not None:
            return True
        if self.stop.seconds is not None and seconds >= self.stop.seconds:
            return True
        returns = self.monitor.returns
        if self.stop.ret is not None and len(returns) == 100 and sum(returns) / 100 >= self.stop.ret:
            return True
        if self.solve:
            return self.solved_at is not None or self.rollout.episodes >= self.solve.max_episodes
        return self.rollout.transitions >= steps

    def _events(self, made: int) -> None:
        """Evaluate, log, draw and save where the newest step, of `made` transitions, passed the time for it."""
        now = self.rollout.transitions
        if now < self._next_event:
            return
        due = lambda every: every > 0 and now // every > (now - made) // every  # noqa: E731
        intervals = self.intervals
        least = intervals.ROW * self.rollout.envs.env.num_envs
        log, draw = max(intervals.log, least), intervals.draw and max(intervals.draw, least)
        solve = self.solve.every if self.solve else 0
        evaluations = {name for name, every in (("solve", solve), ("evaluate", intervals.evaluate)) if due(every)}
        try:
            evaluation = self._evaluations(evaluations | self.postponed)
        except Interrupted:
            self.pending = made
            return
        self.pending = 0
        with self.rollout.clock("log"):
            if evaluation or due(log):
                self._log(evaluation)
        if evaluation:
            self._call("on_evaluation", EvaluationContext, evaluation=evaluation)
        with self.rollout.clock("log"):
            if due(draw):
                self._draw()
            if due(intervals.checkpoint):
                self.save()
        rates = (log, draw, intervals.evaluate, intervals.checkpoint, solve)
        self._next_event = min(every * (now // every + 1) for every in rates if every > 0)
        if self.postponed:
            self._next_event = now + 1

    # --- evaluation --------------------------------------------------------------------------------------------

    def _evaluations(self, names: set[str]) -> Evaluation | None:
        """Play the evaluations `names`, or postpone them to the end of the episode; return the one to log."""
        self.postponed = set()
        if names and self.shared and not bool(self.rollout.envs.start.all()):
            self.postponed = names
            return None
        if self.solve and "solve" in names and self._test(self.solve.episodes).mean >= self.solve.threshold:
            self.solved_at = self.rollout.episodes
        return self._test(self.intervals.episodes) if "evaluate" in names else None

    def _test(self, episodes: int) -> Evaluation:
        seed = self.seed + 1_000_003 * (1 + self.rollout.transitions)
        result = self._evaluate(episodes, seed % 2**31, lambda played: self._check_signal())
        self.recording = result.first
        return result

    def _check_signal(self) -> None:
        """Leave an evaluation where a signal has come."""
        if self.signal is not None:
            raise Interrupted

    def _evaluate(self, episodes: int, seed: int, tick: Callable[[int], None]) -> Evaluation:
        """Play test episodes; environments that use global generators change nothing of training either."""
        with preserved_rng(), self._reporting(self.test_envs), self.rollout.clock("evaluate"):
            try:
                return evaluate(self.rollout.agent, self.test_envs, episodes, seed, tick=tick)
            finally:
                if self.shared:  # a training episode begins in the environment that was played in
                    self.rollout.envs.reset(seed=(seed + 1) % 2**31)

    def _last(self) -> Evaluation | None:
        """Play the final evaluation, with a bar of its own; None where a signal has ended training, or ends this."""
        if self.signal is not None:
            return None

        def tick(played: int) -> None:
            bar.update(played - bar.n)
            self._check_signal()

        episodes = self.intervals.final_episodes
        bar = self.progress(total=episodes, unit=" test episodes", leave=False)
        with interruptible(self.interrupt), bar, suppress(Interrupted):
            return self._evaluate(episodes, self.seed + 7, tick)
        return None

    # --- writing -----------------------------------------------------------------------------------------------

    def _log(self, evaluation: Evaluation | None = None) -> None:
        self._check_finite()
        row = self.monitor.metrics(self.rollout.agent, self.rollout)
        if evaluation:
            row |= {"eval/mean_reward": evaluation.mean, "eval/mean_ep_length": float(evaluation.lengths.mean())}
        then, transitions = self._last_row
        self._last_row = (time.perf_counter(), self.rollout.transitions)
        if self._last_row[1] > transitions:
            row["time/fps"] = (self._last_row[1] - transitions) / max(self._last_row[0] - then, 1e-9)
        if row.get("uncertainty/collapsed") and not self._warned:
            self._warned = True
            self.say(
                "warning: the posterior's draws agree to a thousandth; it has collapsed to a point and explores no more"
            )
        self.logger.log(self.rollout.transitions, row)
        self.metrics = row

    def _draw(self) -> None:
        agent, envs, self.drawn_at = self.rollout.agent, self.rollout.envs, self.rollout.transitions
        pictures = self.monitor.pictures(agent, envs.env.single_observation_space, self.recording, envs.discount)
        self.logger.draw(self.rollout.transitions, self.monitor.samples(agent), pictures)

    def _check_finite(self) -> None:
        begins = f"resume={self.run_dir} begins at {self.saved_at:,} transitions"
        check_finite(self.rollout, begins if self.saved_at >= 0 else "none was made")

    def _postfix(self) -> str:
        returns = self.monitor.returns
        value = f"return {sum(returns) / len(returns):.4g}" if returns else "no episode yet"
        epistemic = self.monitor.epistemic
        return f"{value}, epistemic std {epistemic:.3g}" if math.isfinite(epistemic) else value

    # --- saving ------------------------------------------------------------------------------------------------

    def save(self, environments: bool = True, notify: bool = True) -> None:
        """Write a checkpoint, unless there is one of this moment.

        Arguments:
            environments: whether the state of the environments is saved; without it new episodes follow.
            notify: whether callbacks are called.
        """
        step = self.rollout.transitions
        if step == self.saved_at:
            return
        self._check_finite()
        callbacks, failure = self.callbacks.collect_states()
        run = {
            "seconds": self.seconds,
            "solved_at": self.solved_at,
            "cuts": self.cuts,
            "pending": self.pending,
            "postponed": sorted(self.postponed),
            "info": self.rollout.info,
            "callbacks": callbacks,
        }
        state = training_state(self.rollout, self.monitor, run, environments)
        self.checkpoints.save(step, state, self.rollout.agent.replay)
        self.saved_at = step
        if failure is not None:
            self._note_saved(failure)
            raise failure
        if notify:
            self._call("on_checkpoint", CheckpointContext, path=self.checkpoints.path(step))

    def resume(self, state: dict) -> None:
        """Put back a checkpoint, beside the replay."""
        run = state["run"]
        self.seconds, self.solved_at, self.cuts = run["seconds"], run["solved_at"], run["cuts"]
        self.pending, self.postponed = run["pending"], set(run["postponed"])
        self.callbacks.load_state_dict(run["callbacks"])
        self.saved_at = state["step"]
        if state["envs"]["env"] is None:
            self.say("the environments' state could not be saved: new episodes begin")
            self.cuts = [*self.cuts, state["replay_rows"] - 1]
        restore_training(self.rollout, self.monitor, state, self.cuts)

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
                self._log(result)
            ended = {"final/return": result.mean, "final/hours": self.seconds / 3600}
            ended |= {} if self.solved_at is None else {"final/episodes_to_solve": self.solved_at}
            self.logger.conclude(rollout.transitions, ended)
            self.recording = result.first
            if self.intervals.draw and self.drawn_at < rollout.transitions:
                self._draw()
        if self.solve:
            out["episodes_to_solve"] = self.solved_at
        if self.callbacks.stopped_by is not None:
            out["stopped_by"] = self.callbacks.stopped_by
        replace(self.run_dir / "result.json", (json.dumps(out, indent=2) + "\n").encode())
        if result is not None:
            self._call("on_evaluation", EvaluationContext, evaluation=result)
        total = sum(rollout.clock.seconds.values()) or 1.0
        shares = {part: s / total for part, s in rollout.clock.seconds.items()}
        slowest = max(shares, key=lambda part: shares[part])
        self.say(
            "time: " + ", ".join(f"{part} {share:.0%}" for part, share in shares.items()) + f"; bottleneck: {slowest}"
        )
        if result is None:
            self.say(f"go on with: python -m bayesrl.train resume={self.run_dir}")
            return out
        self.say(f"greedy return of {result.played}: {result.summary()}")
        if self.solve:
            self.say(f"episodes to solve: {self.solved_at if self.solved_at is not None else 'not solved'}")
        return out

    def close(self) -> None:
        """Release files, environments and what callbacks hold."""
        self.logger.close()
        for envs in (self.rollout.envs, self.test_envs):
            with suppress(Exception):  # a worker that has died cannot be closed
                envs.env.close()
        self.callbacks.close()

    def interrupt(self, number: int) -> None:
        """End training at the next boundary, saved, because of a signal."""
        self.signal = number
