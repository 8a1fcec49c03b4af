"""The agent protocol: the base class of every agent, and the base class of those that learn values from a replay.

Shapes: n draws, E environments, A actions (or numbers of a continuous one), B batch, W observations of a window.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn

from bayesrl.compilation.capture import capture
from bayesrl.posteriors import Learner
from bayesrl.rl.experience import Experience
from bayesrl.rl.normalization import Normalizer
from bayesrl.rl.observation_windows import append
from bayesrl.rl.replay_buffer import ReplayBuffer
from bayesrl.rl.td import Polyak
from bayesrl.rl.types import EnvSpec, Forecast, Transition


class Agent(nn.Module):
    """An agent acts, observes transitions and learns; `state_dict` is what a checkpoint saves of it.

    A subclass overrides `act`, `greedy`, and what else it supports. The defaults are those of an agent that
    does not learn, has no values and cannot be compiled.

    Attributes:
        replay: the replay buffer, which is saved beside the state, or None.
        history: W, the number of observations of an episode that a decision depends on.
        discount: gamma, the discount factor of its values.
        can_capture: whether `capture` can compile the agent.
    """

    replay: ReplayBuffer | None
    history: int = 1
    discount: float = 1.0
    can_capture: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.replay = None

    @staticmethod
    def signature(spec: EnvSpec) -> tuple[tuple[int, ...], int]:
        """Return the shape of one input and the number of outputs of the functions that the posterior is over."""
        return spec.shape, spec.actions

    # --- training ------------------------------------------------------------------------------------------------

    def act(self, obs: Tensor, episode_start: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return actions that explore, [E] int64 or, where continuous, [E, A] in [-1, 1].

        Arguments:
            obs: observations, [E, *shape].
            episode_start: whether an episode begins, [E] bool.
            mask: allowed actions, [E, A] bool, if the environments give them.
        """
        raise NotImplementedError

    def observe(self, transition: Transition) -> None:
        """Process one step of every environment."""

    def ready(self) -> bool:
        """Return whether there is enough to learn from."""
        return False

    def learn(self) -> dict[str, Tensor]:
        """Make one update; return 0-d tensors for the log, at least `loss`."""
        return {}

    # --- decisions -----------------------------------------------------------------------------------------------

    def predict(
        self, obs: Tensor, state: Any = None, episode_start: Tensor | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """Return the actions of the posterior mean and the next state; no random state is touched.

        Arguments:
            obs: observations, [E, *shape].
            state: the state that this method returned a step before, a tensor or a tuple of tensors; None at first.
            episode_start: whether an episode begins, which resets the state, [E] bool; by default everywhere if
                `state` is None, and nowhere else.
            mask: allowed actions, [E, A] bool, if the environments give them.

        Returns:
            Actions [E] or [E, A], and the state; None for an agent without memory.
        """
        x = self.inputs(obs, state, episode_start)
        return self.greedy(x, mask), x if self.history > 1 else None

    def inputs(self, obs: Tensor, state: Any = None, episode_start: Tensor | None = None) -> Tensor:
        """Return what `greedy` and `forecast` are functions of: obs, or windows [E, W, *] that end in obs.

        Arguments:
            obs: observations, [E, *shape].
            state: the state as of `predict`.
            episode_start: whether an episode begins, as of `predict`.
        """
        return obs if self.history == 1 else append(state, obs, starts(obs, state, episode_start), self.history)

    def greedy(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the actions of the posterior mean, [B] or [B, A], at inputs x [B, *]."""
        raise NotImplementedError

    def sample(
        self,
        obs: Tensor,
        state: Any = None,
        episode_start: Tensor | None = None,
        mask: Tensor | None = None,
        generator: Generator | None = None,
    ) -> tuple[Tensor, Any]:
        """Return the actions of posterior draws and the next state, which keeps a draw until its episode ends.

        Arguments:
            obs: observations, [E, *shape].
            state: the state that this method returned a step before; None at first. It differs from `predict`'s.
            episode_start: whether an episode begins, as of `predict`.
            mask: allowed actions, [E, A] bool, if the environments give them.
            generator: the generator of the draws; torch's global one by default.

        Raises:
            ValueError: the agent has no draws to act by.
        """
        raise ValueError(
            f"got deterministic=False of {type(self).__name__}, wanted an agent that acts by posterior draws: use "
            "deterministic=True"
        )

    # --- uncertainty ---------------------------------------------------------------------------------------------

    def forecast(self, x: Tensor, generator: Generator) -> Forecast | None:
        """Return draws of Q at inputs x [B, *]; None from an agent without values."""
        return None

    def evaluate_actions(self, x: Tensor, action: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return each draw's own continuous action and its value of `action`, [n, B, A] and [n, B] in return units.

        None from an agent whose draws have no policies. Arguments: inputs x [B, *] and actions [B, A].
        """
        return None

    # --- compilation ---------------------------------------------------------------------------------------------

    def capture(
        self, updates: float = math.inf, acts: float = math.inf, say: Callable[[str], None] = print
    ) -> tuple[bool, bool]:
        """Compile updates and acting where so many calls save more time than that takes; return whether it did each.

        Arguments:
            updates: the expected number of updates.
            acts: the expected number of calls of `act`.
            say: prints a message to the user.
        """
        return False, False


class ValueAgent(Agent):
    """An agent that learns a posterior over Q-functions from batches of its replay, with a target network.

    A subclass implements `act`, `learn` and `update`, the pure tensor function behind `learn`.

    Arguments:
        spec: the properties of the environments; E environments.
        posterior: the posterior over Q-functions of normalized inputs.
        target_update: the rule by which the target follows the learner; `Polyak` by default.
        normalizer: the normalization of observations and returns; `Normalizer` by default.
        imagination: maps (spec, posterior, n_step, discount) to the source of batches; the replay buffer by default.
        discount: gamma, the discount factor.
        n_step: the number of rewards summed before bootstrapping.
        batch_size: B, the number of transitions of an update.
        capacity: the capacity of the replay buffer, in transitions.
        learning_starts: the number of steps stored before the first update.

    Attributes:
        target: a snapshot of the posterior that follows it.
        step: `update`, compiled or not.
    """

    can_capture = True

    def __init__(
        self,
        spec: EnvSpec,
        posterior: Learner,
        target_update: nn.Module | None,
        normalizer: Normalizer | None,
        imagination: Callable[..., Experience] | None,
        discount: float,
        n_step: int,
        batch_size: int,
        capacity: int,
        learning_starts: int,
    ) -> None:
        super().__init__()
        self.device = next(posterior.parameters()).device
        self.posterior, self.target = posterior, posterior.snapshot()
        self.target_update = target_update or Polyak()
        self.normalizer = normalizer or Normalizer(spec, discount).to(self.device)
        self.history = posterior.history
        self.experience = imagination(spec, posterior, n_step, discount) if imagination else Experience()
        tags = self.experience.tags(posterior, 1)
        self.replay: ReplayBuffer = ReplayBuffer(spec, tags, capacity, n_step, discount, self.device, self.history)
        self.discount = discount
        self.spec, self.batch_size, self.learning_starts = spec, batch_size, max(learning_starts, 1)
        self.step: Callable[..., dict[str, Tensor]] = self.update

    def observe(self, transition: Transition) -> None:
        self.normalizer.observe(transition)
        self.replay.add(transition, self.experience.tags(self.posterior, self.spec.num_envs))

    def ready(self) -> bool:
        return len(self.replay) > 0 and self.replay.rows * self.spec.num_envs >= self.learning_starts

    def update(self, index: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """Learn from the transitions at `index` [B] with noise that `learn` draws, without branches on data."""
        raise NotImplementedError

    def capture_update(self, noise: Tensor, updates: float, say: Callable[[str], None]) -> bool:
        """Compile `update` for noise of this shape, where so many calls pay; return whether it did."""
        index = torch.zeros(self.batch_size, dtype=torch.int64, device=self.device)
        self.step = capture(self.update, self, index, noise, name="the update", calls=updates, say=say)
        return self.step != self.update

    def q_values(self, z: Tensor, x: Tensor) -> Tensor:
        """Return Q of draws z [n, *] at inputs x [B, *], [n, B, A] in return units."""
        return self.posterior.expected(z, self.normalizer.obs(x)) * self.normalizer.scale


def starts(obs: Tensor, state: Any, episode_start: Tensor | None) -> Tensor:
    """Return where episodes begin, [E] bool: `episode_start`, or without it everywhere if there is no state yet."""
    if episode_start is not None:
        return episode_start
    return torch.full((len(obs),), state is None, device=obs.device)


def fresh_where(episode_start: Tensor, state: Tensor | None, draw: Callable[[int], Tensor]) -> Tensor:
    """Return `state` [E, *] with new rows where episodes begin, [E] bool: `draw` of k gives k rows, [k, *]."""
    if state is None:
        return draw(len(episode_start))
    if not (count := int(episode_start.sum())):
        return state
    return state.index_copy(0, episode_start.nonzero()[:, 0], draw(count))
