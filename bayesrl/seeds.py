"""Many seeds at once: S runs in one process, whose updates are one call of one stacked graph.

Each is an ordinary run with a directory of its own, as in a sweep, and lives in a thread of its own, of which one at a
time goes on: until it asks for an update, or has ended. When all that go on have asked, all are answered at once. So a
run that evaluates, or has not yet enough to learn from, is waited for, and one that has ended is not: what the graph
then does to its agent is of no consequence.
"""

from __future__ import annotations

import contextlib
import inspect
import random
import threading
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import get_object
from omegaconf import DictConfig
from torch import Tensor, nn
from tqdm import tqdm

from bayesrl import building, launch
from bayesrl import config as cfg
from bayesrl import run_dir as places
from bayesrl.config import ConfigError
from bayesrl.run import Run, interruptible
from bayesrl.stacking import Stacked


def train(config: DictConfig) -> int:
    """Train `seeds` runs, from `seed` on; returns 0, 1 where one failed, or 128 + the signal that ended training early.

    Raises:
        ConfigError: they cannot be trained at once; nothing has begun.
    """
    first, last = config.seed, config.seed + config.seeds - 1
    if last > cfg.MOST["seed"]:
        raise ConfigError([f"got seeds={config.seeds} and seed={first}, wanted seeds up to {cfg.MOST['seed']}"])
    if config.capture is False:
        raise ConfigError([refusal(config, "capture=false")])
    target = config.agent["_target_"]
    if "compile" not in inspect.signature(getattr(get_object(target), "capture", object)).parameters:
        raise ConfigError([refusal(config, f"{target}, whose `capture` takes no `compile`")])
    torch.set_num_threads(config.threads)
    root, before = places.fresh(config.run_dir, config.env.id), generators()
    try:
        with places.held(root, new=True):
            members = [Member(config, root, seed) for seed in range(first, last + 1)]
            return together(members, built(members, config), root)
    finally:
        use(before)


def refusal(config: DictConfig, why: str) -> str:
    """Why the seeds of a configuration cannot be trained at once, and what can be done."""
    processes = f"--multirun 'seed=range({config.seed},{config.seed + config.seeds})'"
    return f"got seeds={config.seeds} with {why}, wanted updates captured as one: or a process for each, {processes}"


def built(members: list[Member], config: DictConfig) -> Stacked:
    """The compiled update of all members, which afterwards are ready to train.

    Raises:
        ConfigError: one cannot be built, or their updates not be captured as one; then none goes on.
    """
    try:
        for member in members:
            member.go()
        try:
            functions, modules = zip(*(member.update for member in members), strict=True)
            update = Stacked(functions, modules, [member.given for member in members])
            tqdm.write(f"compiling the update of {len(members)} seeds, about {update.cost():.0f} s, once")
            update.compile()
        except Exception as error:
            told = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            raise ConfigError([refusal(config, f"an update that cannot be captured ({told})")]) from error
        for member in members:
            member.go()
    except Exception as error:
        for member in members:
            with contextlib.suppress(Exception):
                member.go(error)
        raise
    return update


def together(members: list[Member], update: Stacked, root: Path) -> int:
    """Train members that are ready; returns what `train` does."""
    failed: dict[Path, str] = {}
    stops: list[int] = []
    total = None if members[0].run.solve else len(members) * members[0].config.steps
    bar = tqdm(total=total, unit=" steps", dynamic_ncols=True, mininterval=0.5)

    def stop(number: int) -> None:
        stops.append(number)
        for member in members:
            member.run.interrupt(number)

    def goes(member: Member, answer: object = None) -> bool:
        try:
            member.go(answer)
        except Exception as error:
            failed[member.path] = launch.told(error)[0]
            bar.write(f"{member.path.name}: failed: {failed[member.path]}")
            if not isinstance(error, (*building.TOLD, OSError)):
                traceback.print_exception(error)
        return not member.ended

    with interruptible(stop), bar:
        going = [member for member in members if goes(member)]
        while going:
            given = zip(*(member.given for member in members), strict=True)
            infos = update.parts(*map(torch.stack, given))
            going = [
                member for member, info in zip(members, infos, strict=True) if not member.ended and goes(member, info)
            ]
            bar.update(sum(member.run.rollout.transitions for member in members) - bar.n)
    ended = len(members) - len(failed)
    print("".join(f"failed: {path.name}: {reason}\n" for path, reason in failed.items()), end="")
    if stops:
        many = f"--multirun 'seed=range({members[0].config.seed},{members[-1].config.seed + 1})' run_dir={root}"
        print(f"stopped, every run saved: each goes on with resume=, and all with the same command, but {many}")
        return 128 + stops[0]
    print(f"{ended} of {len(members)} runs finished; compare them: python -m bayesrl.report {root}")
    return int(bool(failed))


class Member:
    """A run in a thread of its own, which has the global generators to itself.

    Attributes:
        update: the function that is captured for all, and its module.
        given: its arguments, of the update that was asked for last.
        run: once it has been built.
        ended: whether it has, and so needs no answers.
    """

    update: tuple[Callable, nn.Module]
    given: tuple[Tensor, ...]
    run: Run

    def __init__(self, config: DictConfig, root: Path, seed: int) -> None:
        self.config, self.path = config.copy(), root / f"seed={seed}"
        self.config.seed, self.config.seeds = seed, None
        self.ended = False
        self.error: Exception | None = None
        self.answer: object = None
        self.generators = *generators()[:-1], np.random.MT19937()
        self.mine, self.theirs = threading.Lock(), threading.Lock()  # released to whose turn it is
        self.mine.acquire()
        self.theirs.acquire()
        threading.Thread(target=self._live, name=self.path.name, daemon=True).start()

    # --- in the main thread ----------------------------------------------------------------------------------------

    def go(self, answer: object = None) -> None:
        """Answer what it asked, or raise an exception there, and wait until it asks again or has ended.

        Raises:
            Exception: by which it ended.
        """
        if self.ended:
            return
        self.answer = answer
        use(self.generators)
        self.mine.release()
        self.theirs.acquire()
        self.generators = generators()
        if self.error is not None:
            raise self.error

    # --- in its own ------------------------------------------------------------------------------------------------

    def _live(self) -> None:
        try:
            self._wait()
            path = places.fresh(str(self.path), self.config.env.id)
            launch.train_in(path, self.config, build=self._build)
        except Exception as error:
            self.error = error
        self.ended = True
        self.theirs.release()

    def _ask(self) -> Any:
        self.theirs.release()
        return self._wait()

    def _wait(self) -> Any:
        self.mine.acquire()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def _build(self, config: DictConfig, run_dir: Path, resuming: bool) -> Run:
        self.run = building.build(config, run_dir, resuming, self._capture)
        self.run.say = lambda text: tqdm.write(f"{run_dir.name}: {text}")
        self.run.progress = partial(tqdm, disable=True)
        self._ask()
        return self.run

    def _capture(self, function: Callable, module: nn.Module, *example: Tensor, **_: object) -> Callable:
        """Stands for `bayesrl.capture.captured`."""
        self.update, self.given = (function, module), example
        self._ask()
        return self._learn

    def _learn(self, *given: Tensor) -> dict[str, Tensor]:
        self.given = given
        return self._ask()


def generators() -> tuple:
    """The global generators of torch, Python and NumPy as they are; NumPy's itself, as copying it is slow."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return torch.get_rng_state(), cuda, random.getstate(), np.random.get_bit_generator()  # type: ignore[attr-defined]


def use(generators: tuple) -> None:
    """Put back what `generators` gave."""
    cpu, cuda, python, numpy = generators
    torch.set_rng_state(cpu)
    if cuda:
        torch.cuda.set_rng_state_all(cuda)
    random.setstate(python)
    np.random.set_bit_generator(numpy)  # type: ignore[attr-defined]
