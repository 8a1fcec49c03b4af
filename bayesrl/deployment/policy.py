"""A trained agent as a function of raw observations: what it does, and how unsure it is of it.

Shapes: n draws, B observations, A actions.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import Space
from gymnasium.spaces import Dict, Tuple
from torch import Generator, Tensor

from bayesrl.envs.actions import actions
from bayesrl.envs.spaces import flatten
from bayesrl.rl.agent import Agent
from bayesrl.rl.td import at, greedy
from bayesrl.rl.types import EnvSpec


class Decision(NamedTuple):
    """A decision at B observations.

    Attributes:
        action: as the environment takes it, [B] or [B, *].
        chosen: what the agent emits: its number among A, [B] int64, or where continuous [B, A] in [-1, 1].
        q: draws of Q in return units, [n, B, A], the same n functions at every call; None for agents without values. Of
            continuous actions as many columns as the agent has values of.
        acting: the Q that decided, [B, A]: the draw's, or the mean of q; None as q.
        uncertainty: standard deviation of q over draws at the chosen action, [B]; NaN for agents without values.
        proposed: where actions are continuous and each draw has a policy, what each would do, [n, B, A] in [-1, 1].
        worth: each draw's value of the chosen action there, [n, B], in return units.
    """

    action: np.ndarray
    chosen: Tensor
    q: Tensor | None
    acting: Tensor | None
    uncertainty: Tensor
    proposed: Tensor | None = None
    worth: Tensor | None = None


class Policy:
    """Greedy on the posterior mean, or on one draw; carries what a recurrent agent has seen of its episode.

    Arguments:
        agent: trained.
        spec: what it was made for.
        observation_space: of one environment.
        action_space: of one environment.
        z: index of the function that acts, [1, *]; None for the posterior mean.
    """

    def __init__(
        self,
        agent: Agent,
        spec: EnvSpec,
        observation_space: Space,
        action_space: Space,
        z: Tensor | None = None,
    ) -> None:
        self.agent, self.spec, self.z = agent, spec, z
        self.observation_space, self.action_space = observation_space, action_space
        self.actions = actions(action_space)
        self.device = next(
            (t.device for t in agent.state_dict().values() if isinstance(t, Tensor)), torch.device("cpu")
        )
        self._seen: Tensor | None = None

    def reset(self) -> None:
        """An episode begins: a recurrent agent forgets the one before."""
        self._seen = None

    def draw(self, seed: int = 0) -> Policy:
        """One function of the posterior, acted on greedily: a Thompson sample; equal seeds, the same function.

        Raises:
            ValueError: an agent without a posterior over values of discrete actions.
        """
        posterior: Any = getattr(self.agent, "posterior", None)
        if self.spec.bounds is not None or not (hasattr(posterior, "expected") and hasattr(self.agent, "normalizer")):
            raise ValueError(
                f"got a draw of {type(self.agent).__name__}, wanted an agent with a posterior over values of discrete "
                "actions, such as bayes_dqn: use the policy without draw"
            )
        z = posterior.index(1, Generator(self.device).manual_seed(seed))
        return Policy(self.agent, self.spec, self.observation_space, self.action_space, z)

    def __call__(self, obs: Any, mask: Any = None, start: Any = None) -> tuple[Any, Any]:
        """(action, uncertainty): the environment's action and the epistemic standard deviation of its Q.

        Uncertainty is in return units, NaN for agents without values. For one observation an action and a float, for a
        batch arrays with a row for each.

        Arguments:
            obs: as the environment gives it, arrays or a dict or tuple of them, of one environment or [B, *].
            mask: `info["action_mask"]`, [A] or [B, A] bool, where the environment gives it.
            start: where episodes begin, [B] bool; a recurrent agent forgets there as `reset` does everywhere.
        """
        batch, alone = batched(self.observation_space, obs)
        decision = self.decide(batch, mask, start)
        action, uncertainty = decision.action, decision.uncertainty.cpu().numpy()
        return (action[0], float(uncertainty[0])) if alone else (action, uncertainty)

    @torch.no_grad()
    def decide(self, batch: Any, mask: Any = None, start: Any = None) -> Decision:
        """Everything that there is to know of a batch of observations [B, *]; arguments as a call has them."""
        flat = flatten(self.observation_space, batch)
        if flat.dtype == np.float32 and not np.isfinite(flat).all():
            raise ValueError("got an observation that is not finite, wanted finite numbers: mend what measures it")
        obs = torch.from_numpy(flat).to(self.device)
        allowed = None if mask is None else torch.as_tensor(np.array(mask, dtype=bool), device=self.device)
        if self.spec.masked and allowed is None:
            raise ValueError('got no mask, wanted info["action_mask"] of the environment: policy(obs, mask)')
        if allowed is not None:
            allowed = allowed.expand(len(obs), self.spec.actions)
        if self._seen is not None and len(self._seen) != len(obs):
            raise ValueError(
                f"got {len(obs)} observations after {len(self._seen)}, wanted as many as before: call reset() first"
            )
        begins = np.full(len(obs), self._seen is None) if start is None else np.broadcast_to(start, len(obs))
        seen = self.agent.see(obs, torch.from_numpy(begins.astype(bool)).to(self.device), self._seen)
        self._seen = seen
        forecast = self.agent.forecast(seen, Generator(self.device).manual_seed(0))
        q = acting = None if forecast is None else forecast.q
        if acting is not None:
            acting = acting.mean(0)
        if self.z is None:
            chosen = self.agent.greedy(seen, allowed)
        else:
            normalizer, posterior = self.agent.normalizer, self.agent.posterior  # type: ignore[attr-defined]
            acting = posterior.expected(self.z, normalizer.obs(seen))[0] * normalizer.scale
            chosen = greedy(acting, allowed)
        if q is None or acting is None:
            uncertainty = torch.full((len(obs),), torch.nan, device=self.device)
        else:
            column = chosen if self.spec.bounds is None else acting.argmax(-1)
            uncertainty = at(q, column.expand(len(q), -1)).std(0, correction=0)
        judge = getattr(self.agent, "judge", None)
        proposed, worth = judge(seen, chosen) if judge else (None, None)
        return Decision(self.actions(chosen.cpu()).numpy(), chosen, q, acting, uncertainty, proposed, worth)


def batched(space: Space, obs: Any) -> tuple[Any, bool]:
    """Observations as a batch [B, *], arrays or a dict or tuple of them, and whether it was one alone.

    Raises:
        ValueError: a shape, or a key, that the space has not.
    """
    leaves: list[tuple[tuple[int, ...], np.ndarray]] = []

    def arrays(part: Space, value: Any) -> Any:
        if isinstance(part, Dict):
            if not isinstance(value, dict) or value.keys() != part.keys():
                got = list(value) if isinstance(value, dict) else type(value).__name__
                raise ValueError(f"got {got}, wanted a dict with the keys {list(part)}")
            return {key: arrays(inner, value[key]) for key, inner in part.items()}
        if isinstance(part, Tuple):
            if not isinstance(value, tuple | list) or len(value) != len(part):
                raise ValueError(f"got {type(value).__name__}, wanted a tuple of {len(part)} parts")
            return tuple(arrays(inner, each) for inner, each in zip(part, value, strict=True))
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
        if array.dtype.kind not in "biuf":
            kind = type(value).__name__
            raise ValueError(f"got an observation of type {kind}, wanted numbers of shape {list(part.shape or ())}")
        leaves.append((part.shape or (), array))
        return array

    out = arrays(space, obs)
    alone = all(array.shape == shape for shape, array in leaves)
    rows = {array.shape[:1] for _, array in leaves}
    if not alone and not (len(rows) == 1 and all(array.shape[1:] == shape for shape, array in leaves)):
        got, wanted = (
            [list(each) for each in shapes] for shapes in zip(*[(a.shape, s) for s, a in leaves], strict=True)
        )
        raise ValueError(f"got observations of shape {got}, wanted {wanted}, or so many of them with a row for each")
    return (_row(out), True) if alone else (out, False)


def _row(value: Any) -> Any:
    """One observation as a batch of one."""
    if isinstance(value, dict):
        return {key: _row(part) for key, part in value.items()}
    return tuple(map(_row, value)) if isinstance(value, tuple) else value[None]
