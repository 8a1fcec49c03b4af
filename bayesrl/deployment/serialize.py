"""A trained agent's decision as one file that needs nothing of the framework: ONNX, or a `torch.export` program.

    obs [B, *shape]  ->  action [B], q [B, A]              the posterior mean
                     ->  action [K, B], q [K, B, A]        K draws, each a function of its own

Normalization is part of it. Inputs are laid out as `bayesrl.envs.flatten` does it; a recurrent agent takes windows
[B, W, 1 + prod(shape)], and one with masks takes mask [B, A] bool too. Shapes: B observations, A actions, K draws.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from bayesrl.posteriors import Posterior, WeightSpace
from bayesrl.rl.agent import Agent, ValueAgent
from bayesrl.rl.normalization import Normalizer
from bayesrl.rl.td import greedy
from bayesrl.rl.types import EnvSpec

CHECKED = 256  # observations at which the file is compared with the agent


class ExportError(ValueError):
    """A decision that cannot be written as a graph, or a file that decides otherwise; says which part and why."""


class Greedy(nn.Module):
    """The mean's or K draws' greedy actions and Q, a pure function of tensors.

    Arguments:
        posterior: over functions from scaled observations to scaled Q.
        normalizer: of observations and returns.
        draws: K, or 0 for the posterior mean.
        seed: of the draws; the first of them is `Policy.draw(seed)` where K = 1.
    """

    z: Tensor | None

    def __init__(self, posterior: Posterior, normalizer: Normalizer, draws: int = 0, seed: int = 0) -> None:
        super().__init__()
        self.posterior, self.normalizer, self.draws = posterior.snapshot(), normalizer, draws
        linear, generator = posterior.likelihood.linear, Generator(next(posterior.parameters()).device)
        z: Tensor | None
        if draws:
            z = posterior.index(draws, generator.manual_seed(seed))
        elif not linear:  # the same 100 draws which `Posterior.mean` takes
            z = posterior.index(100, generator.manual_seed(0))
        else:
            z = posterior.central(100) if type(posterior).center is Posterior.center else None
        self.register_buffer("z", z)

    def forward(self, obs: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return actions and Q at observations [B, *], with masks [B, A] where the environments give them."""
        x = self.normalizer.obs(obs)
        if self.z is None:
            q = self.posterior.mean(x)
        else:
            q = self.posterior.expected(self.z, x)
            q = q if self.draws else q.mean(0)
        q = q * self.normalizer.scale
        return greedy(q, mask), q


class Check(NamedTuple):
    """The agreement of a written file with the agent.

    Attributes:
        observations: compared.
        error: greatest difference of Q, in return units.
    """

    observations: int
    error: float


def decision(agent: Agent, spec: EnvSpec, draws: int = 0, seed: int = 0) -> Greedy:
    """Return the part of an agent that decides.

    Raises:
        ExportError: an agent that is no function from observations to Q.
    """
    if spec.bounds is not None or not isinstance(agent, ValueAgent):
        raise ExportError(
            f"got {type(agent).__name__}, wanted an agent that compares the values of discrete actions, such as "
            "bayes_dqn: only its decision is one function of the observation"
        )
    return Greedy(agent.posterior if draws else agent.target, agent.normalizer, draws, seed).eval()


def write(agent: Agent, spec: EnvSpec, path: Path, form: str, draws: int = 0, seed: int = 0) -> Check:
    """Write an agent's decision to `path`, and compare what the file says with the agent.

    Arguments:
        form: "onnx" or "torch".
        draws, seed: those of `Greedy`.

    Raises:
        ExportError: which part cannot be written, and why; or that the file decides otherwise.
    """
    model = decision(agent, spec, draws, seed)
    obs = examples(spec, model.normalizer, model.posterior.history, CHECKED)
    inputs = (obs, _masks(spec)) if spec.masked else (obs,)
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        try:
            with quiet():
                FORMS[form][0](model, inputs, part)
        except Exception as error:
            name, cause = blame(model, obs, form) or (f"the posterior {type(model.posterior).__name__}", error)
            raise ExportError(
                f"got {name}, which cannot be written as {form} ({type(cause).__name__}: {_first(cause)}), wanted "
                "plain tensor operations: choose another, or take the policy along with bayesrl.load"
            ) from error
        check = compared(model, FORMS[form][1](part), inputs)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return check


def examples(spec: EnvSpec, normalizer: Normalizer, history: int, count: int) -> Tensor:
    """Return random observations [count, *] with the means and standard deviations of training."""
    generator, shape = Generator().manual_seed(0), (count, *spec.shape)
    if spec.dtype == torch.uint8:
        obs = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
    elif spec.dtype == torch.int64:
        obs = torch.randint(spec.categories, shape, generator=generator)
    else:
        obs = normalizer.shift.cpu() + torch.randn(shape, generator=generator) / normalizer.gain.cpu()
    if history == 1:
        return obs
    rows = obs.flatten(1)[torch.randint(count, (count, history), generator=generator)]
    return torch.cat([torch.ones_like(rows[..., :1]), rows], -1)


def compared(model: Greedy, run: Callable[..., tuple[Tensor, Tensor]], inputs: tuple[Tensor, ...]) -> Check:
    """Compare a file's answers with the model's, on all observations at once and on a single one.

    Raises:
        ExportError: another action, where the values are not equal to rounding.
    """
    with torch.no_grad():
        action, q = model(*inputs)
    found, values = run(*inputs)
    alone, _ = run(*(tensor[:1] for tensor in inputs))
    error, unit = float((values - q).abs().max()), float(q.abs().max()) or 1.0
    two = q.masked_fill(~inputs[1], -torch.inf) if len(inputs) > 1 else q
    best = two.topk(min(2, q.shape[-1]), -1).values
    clear = best[..., 0] - best[..., -1] > 1e-4 * unit
    wrong = int(((found != action) & clear).sum())
    if wrong or error > 1e-3 * unit or not torch.equal(alone, found[..., :1]):
        raise ExportError(
            f"got a file that acts otherwise at {wrong} of {action.numel()} observations (Q differs by up to "
            f"{error:.3g}), wanted the same: nothing was written"
        )
    return Check(len(inputs[0]), error)


def blame(model: Greedy, obs: Tensor, form: str) -> tuple[str, Exception] | None:
    """Return which part cannot be exported alone, the normalizer or one function of the network, and why; or None."""
    parts: dict[str, tuple[Callable, Tensor]] = {"the normalizer": (model.normalizer.obs, obs)}
    if isinstance(model.posterior, WeightSpace):
        network = model.posterior.network
        theta = network.init()
        parts["the network"] = (lambda x: network.one(theta, x), model.normalizer.obs(obs))
    for name, (function, inputs) in parts.items():
        try:
            with quiet():
                FORMS[form][0](Part(function), (inputs,), io.BytesIO())
        except Exception as error:
            return name, error
    return None


class Part(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable) -> None:
        super().__init__()
        self.function = function

    def forward(self, obs: Tensor) -> Tensor:
        return self.function(obs)


# --- formats ---------------------------------------------------------------------------------------------------------


def _program(model: nn.Module, inputs: tuple[Tensor, ...]) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch", min=1)
    with torch.no_grad():
        return torch.export.export(model, inputs, dynamic_shapes=tuple({0: batch} for _ in inputs), strict=False)


def _write_torch(model: nn.Module, inputs: tuple[Tensor, ...], place: Path | io.BytesIO) -> None:
    torch.export.save(_program(model, inputs), place)


def _read_torch(path: Path) -> Callable:
    return torch.export.load(path).module()


def _write_onnx(model: nn.Module, inputs: tuple[Tensor, ...], place: Path | io.BytesIO) -> None:
    program = torch.onnx.export(
        _program(model, inputs),
        input_names=["obs", "mask"][: len(inputs)],
        output_names=["action", "q"],
        dynamo=True,
        verbose=False,
        optimize=True,
    )
    assert program is not None
    program.save(place, external_data=False)  # type: ignore[arg-type]  # writes into a buffer too


def _read_onnx(path: Path) -> Callable:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        fed = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
        return tuple(torch.from_numpy(array) for array in session.run(None, fed))

    return run


FORMS: dict[str, tuple[Callable, Callable]] = {
    "onnx": (_write_onnx, _read_onnx),
    "torch": (_write_torch, _read_torch),
}


# --- parts -----------------------------------------------------------------------------------------------------------


def _masks(spec: EnvSpec) -> Tensor:
    """Return random masks that allow at least one action, [CHECKED, A]."""
    mask = torch.rand(CHECKED, spec.actions, generator=Generator().manual_seed(1)) < 0.5
    mask[torch.arange(CHECKED), torch.arange(CHECKED) % spec.actions] = True
    return mask


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the messages of exporters."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _first(error: Exception) -> str:
    """Return the first line of an error's message that is not empty."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason inputs")[:200]
