"""A trained agent as a function of raw observations: its action, and how uncertain it is.

Shapes: n draws, B observations, A actions.
"""

from __future__ import annotations

import html
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import Space
from gymnasium.spaces import Dict, Tuple
from torch import Generator, Tensor, nn

from bayesrl.envs.actions import actions
from bayesrl.envs.spaces import flatten
from bayesrl.rl.agent import Agent, ValueAgent
from bayesrl.rl.td import at, greedy
from bayesrl.rl.types import EnvSpec


class Decision(NamedTuple):
    """A decision at B observations; for a single observation without the dimension B.

    Attributes:
        action: as the environment takes it, [B] or [B, *].
        choice: as the agent emits it: a number below A, [B], or a continuous action in [-1, 1], [B, A].
        uncertainty: standard deviation of Q over draws at the chosen action, [B], in return units; NaN for agents
            without values. Where actions are continuous, of each draw's value of its own action.
        q: draws of Q, [n, B, A], in return units, the same n functions at every call; None for agents without values.
            Where actions are continuous, [n, B, 1], each draw's value of the chosen action.
        q_mean: mean of q over draws, [B, A].
        q_band: 5 and 95 % quantiles of q over draws, [2, B, A].
        probability_best: share of draws in which each action is the best one that is allowed, [B, A]; None where
            actions are continuous.
        q_acting: Q of the function that decided, [B, A]: of the policy's draw, or q_mean.
        proposals: what each draw's own policy would do, [n, B, A] in [-1, 1]; None without such policies.
    """

    action: Any
    choice: np.ndarray
    uncertainty: Any
    q: np.ndarray | None = None
    q_mean: np.ndarray | None = None
    q_band: np.ndarray | None = None
    probability_best: np.ndarray | None = None
    q_acting: np.ndarray | None = None
    proposals: np.ndarray | None = None

    def row(self, i: int) -> Decision:
        """Return the decision at observation i alone."""
        along_draws = ("q", "q_band", "proposals")
        rows = {
            k: part[:, i] if k in along_draws else part[i] for k, part in self._asdict().items() if part is not None
        }
        return self._replace(**rows | {"uncertainty": float(self.uncertainty[i])})


class PolicyState(NamedTuple):
    """The state of `Policy.predict` in B episodes.

    Attributes:
        agent: the agent's own state.
        deterministic: whether it is that of the posterior mean, or of posterior draws.
        size: B.
    """

    agent: Any
    deterministic: bool
    size: int


class Policy:
    """A trained agent that acts on its posterior mean, or on one draw.

    `policy(obs)` and `policy.decide(obs)` remember the episode that they are called in; `reset` forgets it.
    `policy.predict` remembers nothing: its state is passed in and returned.

    Arguments:
        agent: trained.
        spec: of the environments that it was made for.
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
        self._state: PolicyState | None = None

    def __repr__(self) -> str:
        """Return one line: the agent, its posterior, and what it acts on."""
        return f"Policy({', '.join(f'{name}={value}' for name, value in self._summary().items())})"

    def _repr_html_(self) -> str:
        """Return the same as a table, for notebooks."""
        rows = (
            f"<tr><th>{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>"
            for name, value in self._summary().items()
        )
        return f"<table>{''.join(rows)}</table>"

    def _summary(self) -> dict[str, str]:
        summary = {"agent": type(self.agent).__name__}
        if isinstance(self.agent, ValueAgent):
            summary["posterior"] = type(self.agent.posterior).__name__
        spaces = {"observations": self.observation_space, "actions": self.action_space}
        summary |= {name: f"{type(space).__name__}{list(space.shape or ())}" for name, space in spaces.items()}
        return summary | {"acts_on": "the posterior mean" if self.z is None else "one posterior draw"}

    def reset(self) -> None:
        """Begin a new episode: a recurrent agent forgets the observations, and a planner its plan."""
        self._state = None

    def draw(self, seed: int = 0) -> Policy:
        """Return the policy that is greedy on one posterior draw, a Thompson sample; equal seeds, the same function.

        Raises:
            ValueError: an agent without a posterior over values of discrete actions.
        """
        if self.spec.bounds is not None or not isinstance(self.agent, ValueAgent):
            raise ValueError(
                f"got a draw of {type(self.agent).__name__}, wanted an agent with a posterior over values of discrete "
                "actions, such as bayes_dqn: use the policy without draw, or predict with deterministic=False"
            )
        z = self.agent.posterior.index(1, Generator(self.device).manual_seed(seed))
        return Policy(self.agent, self.spec, self.observation_space, self.action_space, z)

    # --- acting --------------------------------------------------------------------------------------------------

    def __call__(self, obs: Any, mask: Any = None, episode_start: Any = None) -> tuple[Any, Any]:
        """Return the environment's action, and the epistemic standard deviation of its Q in return units.

        The latter is NaN for agents without values. For one observation an action and a float, for a batch arrays with
        a row for each.

        Arguments:
            obs: as the environment gives it, arrays or a dict or tuple of them, of one environment or [B, *].
            mask: `info["action_mask"]`, [A] or [B, A] bool, where the environment gives it.
            episode_start: where episodes begin, [B] bool; there is forgotten what `reset` forgets everywhere.

        Raises:
            ValueError: observations that are not of the space or not finite, a mask that is missing or allows nothing,
                or, for an agent with memory, another number of observations than in the call before.
        """
        decision = self.decide(obs, mask, episode_start)
        return decision.action, decision.uncertainty

    @torch.no_grad()
    def decide(self, obs: Any, mask: Any = None, episode_start: Any = None) -> Decision:
        """Return the action with Q, its band, and the probability that each action is best.

        Arguments and errors are those of a call; for one observation the parts have no dimension B.
        """
        x, allowed, begins, single = self._tensors(obs, mask, episode_start, self._state)
        before = None if self._state is None else self._state.agent
        inputs = self.agent.inputs(x, before, begins)
        choice, after = self._act(x, before, begins, allowed)
        self._state = PolicyState(after, True, len(x))
        decision = self._decision(inputs, choice, allowed)
        return decision.row(0) if single else decision

    @torch.no_grad()
    def predict(
        self,
        obs: Any,
        state: PolicyState | None = None,
        episode_start: Any = None,
        deterministic: bool = True,
        mask: Any = None,
    ) -> tuple[Any, PolicyState]:
        """Return the environment's action and the next state, as Stable-Baselines3's `evaluate_policy` asks for them.

        Arguments:
            obs: one observation or a batch, as the environment gives it.
            state: what this method returned a step before; None at first.
            episode_start: where episodes begin, [B] bool; without it everywhere if there is no state, else nowhere.
            deterministic: act on the posterior mean; if False, on posterior draws, one for each episode (Thompson
                sampling), by torch's global generator.
            mask: `info["action_mask"]`, [A] or [B, A] bool, where the environment gives it.

        Raises:
            ValueError: those of a call, a state of another kind, or deterministic=False of an agent without draws.
        """
        if state is not None and not isinstance(state, PolicyState):
            got = type(state).__name__
            raise ValueError(f"got a state of type {got}, wanted what predict returned a step before, or None at first")
        deterministic = deterministic or self.z is not None  # this draw acts
        if state is not None and state.deterministic != deterministic:
            raise ValueError(
                f"got deterministic={deterministic} with a state of deterministic={state.deterministic}, wanted "
                "the same during an episode: begin with state=None"
            )
        x, allowed, begins, single = self._tensors(obs, mask, episode_start, state)
        before = None if state is None else state.agent
        if deterministic:
            choice, after = self._act(x, before, begins, allowed)
        else:
            choice, after = self.agent.sample(x, before, begins, allowed)
        action = self.actions(choice.cpu()).numpy()
        return action[0] if single else action, PolicyState(after, deterministic, len(x))

    # --- parts ---------------------------------------------------------------------------------------------------

    def _tensors(
        self, obs: Any, mask: Any, episode_start: Any, state: PolicyState | None
    ) -> tuple[Tensor, Tensor | None, Tensor, bool]:
        """Return observations [B, *shape], masks [B, A] or None, episode starts [B], and whether it is one alone."""
        batch, single = batched(self.observation_space, obs)
        flat = flatten(self.observation_space, batch)
        if flat.dtype == np.float32 and not np.isfinite(flat).all():
            raise ValueError("got an observation that is not finite, wanted finite numbers: mend what measures it")
        x, B, A = torch.from_numpy(flat).to(self.device), len(flat), self.spec.actions
        if self.spec.masked and mask is None:
            raise ValueError('got no mask, wanted info["action_mask"] of the environment: policy(obs, mask)')
        allowed = None
        if mask is not None:
            rows = np.array(mask, dtype=bool)
            if rows.shape not in ((A,), (1, A), (B, A)):
                raise ValueError(f"got a mask of shape {list(rows.shape)}, wanted [{A}] or [{B}, {A}]")
            if not rows.any(-1).all():
                raise ValueError("got a mask that allows no action, wanted at least one allowed in every row")
            allowed = torch.as_tensor(rows, device=self.device).expand(B, A)
        if state is not None and state.agent is not None and state.size != B:  # what has no memory may change
            raise ValueError(
                f"got {B} observations after {state.size}, wanted as many as before: call reset() first, or predict "
                "with state=None"
            )
        starts = np.asarray(state is None if episode_start is None else episode_start, dtype=bool)
        if starts.shape not in ((), (1,), (B,)):
            raise ValueError(f"got episode_start of shape {list(starts.shape)}, wanted [{B}]")
        begins = torch.from_numpy(np.broadcast_to(starts, B).copy()).to(self.device)
        return x, allowed, begins, single

    def _act(self, obs: Tensor, state: Any, begins: Tensor, mask: Tensor | None) -> tuple[Tensor, Any]:
        """Return the agent's choice and its next state: that of the posterior mean, or of this policy's draw."""
        if self.z is None:
            return self.agent.predict(obs, state, begins, mask)
        assert isinstance(self.agent, ValueAgent)  # by `draw`
        x = self.agent.inputs(obs, state, begins)
        return greedy(self.agent.q_values(self.z, x)[0], mask), x if self.agent.history > 1 else None

    def _decision(self, x: Tensor, choice: Tensor, mask: Tensor | None) -> Decision:
        """Return everything there is to know of a choice [B] or [B, A] at inputs x [B, *]."""
        action = self.actions(choice.cpu()).numpy()
        forecast = self.agent.forecast(x, Generator(self.device).manual_seed(0))
        if forecast is None:
            return Decision(action, choice.cpu().numpy(), np.full(len(x), np.nan, np.float32))
        q, continuous = forecast.q, self.spec.bounds is not None
        column = q.mean(0).argmax(-1) if continuous else choice
        uncertainty = at(q, column.expand(len(q), -1)).std(0, correction=0)
        proposals = best = None
        if (evaluated := self.agent.evaluate_actions(x, choice)) is not None:
            proposals, value = evaluated
            q = value[..., None]
        if not continuous:
            best = nn.functional.one_hot(greedy(q, mask), q.shape[-1]).float().mean(0)
        band = q.quantile(torch.tensor([0.05, 0.95], dtype=q.dtype, device=q.device), 0)
        acting = mean = q.mean(0)
        if self.z is not None and isinstance(self.agent, ValueAgent):
            acting = self.agent.q_values(self.z, x)[0]
        parts = (uncertainty, q, mean, band, best, acting, proposals)
        return Decision(action, choice.cpu().numpy(), *(None if part is None else part.cpu().numpy() for part in parts))


def batched(space: Space, obs: Any) -> tuple[Any, bool]:
    """Return observations as a batch [B, *], arrays or a dict or tuple of them, and whether it was a single one.

    Raises:
        ValueError: a shape or a key that is not the space's.
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
    single = all(array.shape == shape for shape, array in leaves)
    rows = {array.shape[:1] for _, array in leaves}
    if not single and not (len(rows) == 1 and all(array.shape[1:] == shape for shape, array in leaves)):
        got, wanted = (
            [list(each) for each in shapes] for shapes in zip(*[(a.shape, s) for s, a in leaves], strict=True)
        )
        raise ValueError(f"got observations of shape {got}, wanted {wanted}, or so many of them with a row for each")
    return (_row(out), True) if single else (out, False)


def _row(value: Any) -> Any:
    """Return one observation as a batch of one."""
    if isinstance(value, dict):
        return {key: _row(part) for key, part in value.items()}
    return tuple(map(_row, value)) if isinstance(value, tuple) else value[None]
