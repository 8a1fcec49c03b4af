"""A counting environment, so that every expected array is written out, in all three autoreset modes."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from bayesrl.envs.check import EnvError
from bayesrl.rollout import Environments, Rollout

SAME, NEXT, OFF = AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED


class Counting(gym.Env):
    """Shows 0, 1, 2, ...; reward is the count; ends after `length` steps; actions are 5 and 6."""

    def __init__(self, length=2, truncates=False, bad=None, mask=False):
        self.observation_space, self.action_space = Box(-np.inf, np.inf, (1,), np.float32), Discrete(2, start=5)
        self.length, self.truncates, self.bad, self.mask = length, truncates, bad, mask
        self.taken = []

    def _out(self):
        value = np.nan if self.t == self.bad else self.t
        return np.array([value], np.float32), {"action_mask": np.array([True, self.t % 2 == 0])} if self.mask else {}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._out()

    def step(self, action):
        assert action in self.action_space
        self.taken.append(int(action))
        self.t += 1
        obs, info = self._out()
        end = self.t == self.length
        return obs, float(self.t), end and not self.truncates, end and self.truncates, info


def begun(mode, *envs, discount=0.5):
    vector = SyncVectorEnv([lambda env=env: env for env in envs], autoreset_mode=mode)
    out = Environments(vector, discount)
    out.reset(seed=0)
    return out


def play(envs, steps):
    """Columns by name, [steps, E] as lists."""
    names = ("obs", "next_obs", "reward", "terminated", "truncated", "valid")
    rows = {name: [] for name in (*names, "start")}
    for _ in range(steps):
        rows["start"].append(envs.start.int().tolist())
        transition = envs.step(torch.zeros(envs.spec.num_envs, dtype=torch.int64))
        for name in names:
            rows[name].append(getattr(transition, name).flatten().int().tolist())
    return rows


@pytest.mark.parametrize("mode", [SAME, OFF])
@pytest.mark.parametrize("truncates", [False, True])
def test_one_environment_reset_in_its_last_step(mode, truncates):
    rows = play(begun(mode, Counting(2, truncates)), 4)
    end = "truncated" if truncates else "terminated"
    assert rows["obs"] == [[0], [1], [0], [1]]
    assert rows["next_obs"] == [[1], [2], [1], [2]]
    assert rows["reward"] == [[1], [2], [1], [2]]
    assert rows[end] == [[0], [1], [0], [1]]
    assert sum(map(sum, rows["terminated" if truncates else "truncated"])) == 0
    assert rows["valid"] == [[1]] * 4
    assert rows["start"] == [[1], [0], [1], [0]]


@pytest.mark.parametrize("truncates", [False, True])
def test_one_environment_reset_in_the_step_after(truncates):
    rows = play(begun(NEXT, Counting(2, truncates)), 5)
    assert rows["obs"] == [[0], [1], [2], [0], [1]]
    assert rows["next_obs"] == [[1], [2], [0], [1], [2]]
    assert rows["reward"] == [[1], [2], [0], [1], [2]]
    assert rows["truncated" if truncates else "terminated"] == [[0], [1], [0], [0], [1]]
    assert rows["valid"] == [[1], [1], [0], [1], [1]]
    assert rows["start"] == [[1], [0], [0], [1], [0]]


@pytest.mark.parametrize("mode", [SAME, OFF])
def test_three_environments_end_at_their_own_times(mode):
    rows = play(begun(mode, Counting(1), Counting(2, True), Counting(9)), 3)
    assert rows["obs"] == [[0, 0, 0], [0, 1, 1], [0, 0, 2]]
    assert rows["next_obs"] == [[1, 1, 1], [1, 2, 2], [1, 1, 3]]
    assert rows["terminated"] == [[1, 0, 0]] * 3
    assert rows["truncated"] == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert rows["start"] == [[1, 1, 1], [1, 0, 0], [1, 1, 0]]


def test_three_environments_reset_in_the_step_after():
    rows = play(begun(NEXT, Counting(1), Counting(2, True), Counting(9)), 4)
    assert rows["next_obs"] == [[1, 1, 1], [0, 2, 2], [1, 0, 3], [0, 1, 4]]
    assert rows["valid"] == [[1, 1, 1], [0, 1, 1], [1, 0, 1], [0, 1, 1]]
    assert rows["start"] == [[1, 1, 1], [0, 0, 0], [1, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize("mode", [SAME, NEXT, OFF])
def test_episodes_are_tallied_by_hand(mode):
    envs, seen = begun(mode, Counting(2), Counting(3, True)), []
    for _ in range(4):
        envs.step(torch.zeros(2, dtype=torch.int64))
        seen += envs.finished
    # 1 + 2 and 1 + 2 + 3; discounted by 1/2: 1 + 1 and 1 + 1 + 3/4.
    assert seen[0] == (0, 3.0, 2.0, 2, False)
    assert seen[1] == (1, 6.0, 2.75, 3, True)
    assert len(seen) == (2 if mode is NEXT else 3)


def test_actions_are_counted_from_the_spaces_start():
    env = Counting()
    envs = begun(SAME, env)
    envs.step(torch.tensor([1]))
    assert env.taken == [6]


def test_masks_belong_to_the_true_next_observation():
    envs = begun(SAME, Counting(1, True, mask=True))
    assert envs.spec.masked and envs.mask.tolist() == [[True, True]]
    transition = envs.step(torch.tensor([0]))
    assert transition.next_mask.tolist() == [[True, False]] and envs.mask.tolist() == [[True, True]]


@pytest.mark.parametrize(("mode", "bad", "steps"), [(SAME, 1, 1), (SAME, 2, 2), (OFF, 2, 2), (SAME, 0, 0)])
def test_an_observation_that_is_no_number_is_told_where(mode, bad, steps):
    with pytest.raises(
        EnvError, match=rf"got the observation nan at index \[0\] from environment 1 at step {steps}, wanted"
    ):
        play(begun(mode, Counting(2), Counting(2, bad=bad)), 3)


def test_earlier_transitions_are_not_overwritten():
    envs = begun(SAME, Counting(9))
    first = envs.step(torch.tensor([0]))
    envs.step(torch.tensor([0]))
    assert (first.obs.item(), first.next_obs.item(), first.reward.item()) == (0, 1, 1)


class Idle(torch.nn.Module):
    """Acts 0, learns nothing, counts updates."""

    replay, updates = None, 0

    def act(self, obs, start, mask=None):
        return torch.zeros(len(obs), dtype=torch.int64)

    greedy = lambda self, obs, mask=None: self.act(obs, None)  # noqa: E731

    def observe(self, transition): ...

    def ready(self):
        return True

    def learn(self):
        self.updates += 1
        return {"loss": torch.zeros(())}


def test_reset_steps_are_no_transitions_and_pay_for_no_update():
    rollout = Rollout(Idle(), begun(NEXT, Counting(2)), replay_ratio=0.5)
    assert [rollout.step() for _ in range(6)] == [1, 1, 0, 1, 1, 0]
    assert (rollout.transitions, rollout.episodes, rollout.updates) == (4, 2, 2)
