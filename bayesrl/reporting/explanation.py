"""Explanation of a posterior as a table, as JSON and as figures, from `bayesrl.metrics.attribution`.

Shapes: n draws, B inputs, K outputs, P weights, F features.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import Space
from gymnasium.spaces import Dict, Discrete, MultiDiscrete, Tuple
from torch import Generator, Tensor

from bayesrl.envs.spaces import observation_layout
from bayesrl.metrics import attribution as ask
from bayesrl.metrics.attribution import Band, Histogram, Pruning
from bayesrl.plotting.svg import Curve, bars, curves, heat, histograms
from bayesrl.posteriors import Learner, WeightSpace
from bayesrl.rl.agent import Agent, ValueAgent
from bayesrl.rl.replay_buffer import ReplayBuffer
from bayesrl.rl.td import greedy
from bayesrl.training.evaluation import evaluate
from bayesrl.training.vector_env import VectorEnvAdapter

ROWS = 40  # of the table and the figure; JSON has all
WEIGHTS = 10  # draws of the weights for each draw of relevance: an SNR below 1 / sqrt(their number) is noise


class Explanation(NamedTuple):
    """The explanation of a posterior.

    Attributes:
        names: of the F features, or categories.
        permutation: each feature's effect, [F].
        gradient: its effect along one standard deviation, [F]; None for indices.
        map: the mean gradient at each pixel of images, channels summed, [height, width], or of windows for each
            feature at each time, [W, F].
        ard, snr: of each feature, [F].
        pruning: what is left of the mean without the weights of lowest SNR.
        returns: of the pruned policies in the environment, [k], where they were played.
        layers: histograms of the weights by quantity and layer.
        left_out: sentences that say what there is not, and why.
    """

    names: Sequence[str]
    permutation: Band
    gradient: Band | None = None
    map: Tensor | None = None
    ard: Tensor | None = None
    snr: Tensor | None = None
    pruning: Pruning | None = None
    returns: Tensor | None = None
    layers: dict[str, dict[str, Histogram]] = {}  # noqa: RUF012
    left_out: Sequence[str] = ()

    def ranking(self) -> list[int]:
        """Return features by permutation, the greatest first; those that no input shows are left out."""
        order = self.permutation.mean.argsort(descending=True, stable=True).tolist()
        return [i for i in order if self.permutation.mean[i].isfinite()]

    def table(self) -> str:
        """Return the table, a row for each feature, the most relevant first."""
        top = self.ranking()[:ROWS]
        columns = {"feature": [self.names[i] for i in top]}
        for name, values in (("permuted", self.permutation), ("gradient", self.gradient)):
            if values is not None:
                columns[f"{name} [5 %, 95 %]"] = [_banded(*(float(part[i]) for part in values)) for i in top]
        for name, number in (("ARD scale", self.ard), ("SNR", self.snr)):
            if number is not None:
                columns[name] = [f"{float(number[i]):.3g}" for i in top]
        widths = [max(len(title), *map(len, cells)) for title, cells in columns.items()]
        rows = [list(columns), *zip(*columns.values(), strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        more = len(self.ranking()) - len(top)
        return "\n".join([*lines, *([f"and {more} more"] if more > 0 else [])])

    def json(self, **about: Any) -> str:
        """Return all numbers as JSON; null where there is none."""
        by_feature = {"permutation": self.permutation, "gradient": self.gradient, "ard": self.ard, "snr": self.snr}
        parts = {
            **about,
            "features": [
                {"name": self.names[i], **{name: _at(values, i) for name, values in by_feature.items()}}
                for i in self.ranking()
            ],
            "map": self.map,
            "pruning": self.pruning and {**self.pruning._asdict(), "return": self.returns},
            "layers": self.layers,
            "left_out": self.left_out,
        }
        return json.dumps(_plain(parts), indent=1) + "\n"

    def figures(self) -> dict[str, str]:
        """Return SVG texts by file name."""
        top = self.ranking()[:ROWS]
        panels = {"permuted": self.permutation} | ({} if self.gradient is None else {"gradient": self.gradient})
        shown = {f"change of Q, {name}": Band(*(part[top] for part in band)) for name, band in panels.items()}
        out = {"relevance.svg": bars([self.names[i] for i in top], shown)}
        if self.map is not None:
            out["map.svg"] = heat("gradient by place", self.map)
        if self.pruning is not None:
            share, error, changed = self.pruning
            lines = [Curve("change", {"of Q, root mean square over its sd": error, "share of greedy actions": changed})]
            lines += [] if self.returns is None else [Curve("return", {"greedy return": self.returns})]
            out["pruning.svg"] = curves(share, "share of the uncertain weights set to 0, lowest SNR first", lines)
        if self.layers:
            out["layers.svg"] = histograms(self.layers)
        return out


def explain(
    posterior: Learner,
    x: Tensor,
    names: Sequence[str],
    categories: int = 0,
    draws: int = 100,
    seed: int = 0,
    unit: float = 1.0,
    mask: Tensor | None = None,
) -> Explanation:
    """Explain a posterior at inputs x [B, *], each for the output with the greatest mean.

    Arguments:
        names: of the features: of images the channels, of indices all categories.
        categories: C, where x are indices of ones.
        draws: n.
        seed: of draws and permutations.
        unit: multiplies relevance, such as the scale of the return.
        mask: outputs that may be chosen, [B, K] bool.
    """
    flag = int(posterior.history > 1)  # windows hold one before each observation
    if flag and categories:
        raise ValueError("got windows of indices, wanted single observations: use a network without history")
    if not categories and len(names) != x.shape[-1] - flag:
        raise ValueError(f"got {len(names)} names, wanted {x.shape[-1] - flag}: one for each feature")
    generator = Generator(x.device).manual_seed(seed)
    z = posterior.index(draws, generator)
    with torch.no_grad():
        chosen = greedy(posterior.mean(x), mask)
    other = ask.derangement(len(x), Generator().manual_seed(seed)).to(x.device)
    left_out = []
    if posterior.degenerate:
        left_out.append("intervals have no width: the posterior is one function")
    if categories:
        out = Explanation(names, _band(ask.by_category(posterior, z, x, chosen, other, categories), unit))
        left_out.append("gradient left out: indices of ones have none")
    else:
        slopes = ask.gradient(posterior, z, x, chosen)[..., flag:] * unit
        out = Explanation(
            names,
            _band(ask.permutation(posterior, z, x, chosen, other)[:, flag:], unit),
            _band(slopes.reshape(draws, -1, len(names)).mean(1)),
            _map(slopes.mean(0).cpu()),
        )
    if (scales := ask.ard(posterior)) is None:
        left_out.append("ARD scales left out: the posterior's prior is not bayesrl.priors.ARD")
    elif _fits(len(scales), names, categories, "ARD scales", left_out):
        out = out._replace(ard=scales.cpu())
    if isinstance(posterior, WeightSpace):
        out = _of_weights(out, posterior, posterior.index(WEIGHTS * draws, generator), x, mask, categories, left_out)
    else:
        kind = type(posterior).__name__
        left_out.append(f"SNR, pruning and layers left out: {kind} has no `weights`, draws as vectors of weights")
    return out._replace(left_out=left_out)


def _of_weights(
    out: Explanation,
    posterior: WeightSpace,
    z: Tensor,
    x: Tensor,
    mask: Tensor | None,
    categories: int,
    left_out: list[str],
) -> Explanation:
    """Add SNR of features, pruning and histograms by layer, as far as weights differ between draws."""
    moments, layout = ask.moments(posterior, z), posterior.network.layout
    mean, std = moments.mean.cpu(), moments.std.cpu()
    layers = {"mean": ask.histograms(layout, mean)}
    if not (std > 0).any():
        left_out.append("SNR and pruning left out: the weights are the same in every draw")
        return out._replace(layers=layers)
    layers["log10 sd"] = ask.histograms(layout, std.log10())
    layers["log10 SNR"] = ask.histograms(layout, moments.snr.cpu().log10())
    snr = ask.feature_snr(layout, moments.snr).cpu()
    if not (std[layout.feature >= 0] > 0).any():
        left_out.append("SNR of features left out: the first layer's weights are the same in every draw")
    elif _fits(len(snr), out.names, categories, "SNR of features", left_out):
        out = out._replace(snr=snr)
    curve = ask.pruning(posterior, z, x, mask=mask)
    if curve.error[0] > 0.5:
        left_out.append(
            f"SNR and pruning say little: the mean weights alone err by {float(curve.error[0]):.2g} standard "
            "deviations of Q before any is pruned, because draws are different networks"
        )
    return out._replace(layers=layers, pruning=curve)


def _fits(found: int, names: Sequence[str], categories: int, what: str, left_out: list[str]) -> bool:
    """Return whether the first layer has an input for each name (for indices one more, the padding)."""
    if found - (categories > 0) == len(names):
        return True
    left_out.append(f"{what} left out: the first layer has {found} inputs for {len(names)} features")
    return False


# --- an agent's ------------------------------------------------------------------------------------------------------


def states(replay: ReplayBuffer, count: int, generator: Generator) -> tuple[Tensor, Tensor | None]:
    """Sample states from the replay and, where actions are masked, their masks: [B, *shape], [B, A] or None."""
    index = (replay.oldest * replay.E + torch.randperm(len(replay), generator=generator)) % (replay.T * replay.E)
    sample = replay.gather(index[: 2 * count].to(replay.size.device))
    there, obs, mask = sample.weight > 0, sample.obs, sample.next_mask
    if mask is not None:  # stored with the state that a transition leads to
        there, obs = there & (sample.discount > 0), sample.next_obs
    if there.sum() < 2:
        raise ValueError(f"got a replay of {int(there.sum())} states, wanted two or more: train longer")
    return obs[there][:count], None if mask is None else mask[there][:count]


class Pruned(Agent):
    """Greedy on the mean weights of which some are 0.

    Arguments:
        agent: whose posterior and normalizer.
        z: draws over which its frozen parts are averaged.
        theta: [P].
    """

    def __init__(self, agent: ValueAgent, z: Tensor, theta: Tensor) -> None:
        super().__init__()
        assert isinstance(agent.posterior, WeightSpace)  # there is a pruning curve
        self.posterior, self.normalizer, self.history = agent.posterior, agent.normalizer, agent.history
        self.z, self.theta = z, theta

    @torch.no_grad()
    def greedy(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.normalizer.obs(x)
        prior = ask.prior_function_mean(self.posterior, self.z, x)
        return greedy(ask.mean_weight_output(self.posterior, self.theta, x, prior), mask)


def pruned_returns(
    out: Explanation, agent: ValueAgent, envs: VectorEnvAdapter, episodes: int, seed: int
) -> Explanation:
    """Add the mean return of `episodes` greedy episodes at each pruned share, where there is a pruning curve."""
    if out.pruning is None:
        return out
    posterior = agent.posterior
    assert isinstance(posterior, WeightSpace)  # there is a pruning curve
    z = posterior.index(100 if ask.has_prior_function(posterior) else 1000, Generator(envs.device).manual_seed(seed))
    moments, shares = ask.moments(posterior, z), out.pruning.share.tolist()
    policies = [Pruned(agent, z, ask.pruned(moments, share)) for share in shares]
    returns = [evaluate(policy, envs, episodes, seed).mean for policy in policies]
    return out._replace(returns=torch.tensor(returns))


def feature_names(space: Space) -> list[str]:
    """Return a name for each feature in the order of `envs.spaces.flatten`: numbers, keys, values of categories."""
    seen = observation_layout(space)
    if len(seen.shape) == 3:
        return [f"channel {i}" for i in range(seen.shape[-1])]
    return [name.replace("]", "", 1)[1:] if name[:1] == "[" else name.lstrip(".=") or "0" for name in _suffixes(space)]


def _suffixes(space: Space) -> list[str]:
    """Return the suffixes that turn the name of an observation into the names of its features."""
    match space:
        case Discrete():
            return [f"={space.start + i}" for i in range(space.n)]
        case MultiDiscrete():
            values = zip(np.ndindex(space.nvec.shape), space.nvec.flat, space.start.flat, strict=True)
            return [f"{_place(i)}={start + v}" for i, n, start in values for v in range(n)]
        case Dict() | Tuple():
            parts = space.items() if isinstance(space, Dict) else enumerate(space)
            return [f".{key}{suffix}" for key, part in parts for suffix in _suffixes(part)]
    assert space.shape is not None  # `observation_layout` refuses others
    return [""] if math.prod(space.shape) == 1 else [_place(i) for i in np.ndindex(space.shape)]


def _place(index: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, index))}]"


# --- parts -----------------------------------------------------------------------------------------------------------


def _map(slopes: Tensor) -> Tensor | None:
    """Return the pixels of images [height, width, channels], or the features at each time of windows [W, F]."""
    return slopes.sum(-1) if slopes.dim() == 3 else slopes if slopes.dim() == 2 else None


def _band(draws: Tensor, unit: float = 1.0) -> Band:
    return Band(*((part * unit).cpu() for part in ask.band(draws)))


def _at(values: Band | Tensor | None, i: int) -> dict | Tensor | None:
    """Return the values of feature i."""
    return (
        Band(*(part[i] for part in values))._asdict()
        if isinstance(values, Band)
        else None
        if values is None
        else values[i]
    )


def _banded(mean: float, low: float, high: float) -> str:
    return f"{mean:.3g} [{low:.3g}, {high:.3g}]"


def _plain(node: Any) -> Any:
    """Return plain values for JSON: tensors as lists, None for numbers that are not finite."""
    if isinstance(node, Tensor):
        return _plain(node.tolist())
    if hasattr(node, "_asdict"):
        return _plain(node._asdict())
    if isinstance(node, dict):
        return {key: _plain(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_plain(value) for value in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node
