"""A counting environment, so that every expected array is written out, in all three autoreset modes."""

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode
from torch.utils._python_dispatch import TorchDispatchMode

from bayesrl.envs import Numpy, TensorCartPole, TensorDeepSea, TensorEnv, TensorPendulum, TensorRiverSwim
from bayesrl.envs.errors import EnvError
from bayesrl.evaluate import main as evaluate_command
from bayesrl.rl.types import Transition
from bayesrl.training.device_vector_env import DeviceVectorEnvAdapter
from bayesrl.training.evaluation import evaluate
from bayesrl.training.rollout import Rollout
from bayesrl.training.vector_env import VectorEnvAdapter
from support.agents import Idle
from support.environments import Counting, started
from support.runs import checkpoint, metrics, resume, same, train

SAME, NEXT, OFF = AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED


def play(envs, steps):
    """Columns by name, [steps, E] as lists."""
    names = ("obs", "next_obs", "reward", "terminated", "truncated", "valid")
    rows = {name: [] for name in (*names, "start")}
    for _ in range(steps):
        rows["start"].append(envs.start.int().tolist())
        assert envs.began == envs.start.nonzero()[:, 0].tolist()
        transition = envs.step(torch.zeros(envs.spec.num_envs, dtype=torch.int64))
        for name in names:
            rows[name].append(getattr(transition, name).flatten().int().tolist())
    return rows


@pytest.mark.parametrize("mode", [SAME, OFF])
@pytest.mark.parametrize("truncates", [False, True])
def test_one_environment_reset_in_its_last_step(mode, truncates):
    rows = play(started(mode, Counting(2, truncates)), 4)
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
    rows = play(started(NEXT, Counting(2, truncates)), 5)
    assert rows["obs"] == [[0], [1], [2], [0], [1]]
    assert rows["next_obs"] == [[1], [2], [0], [1], [2]]
    assert rows["reward"] == [[1], [2], [0], [1], [2]]
    assert rows["truncated" if truncates else "terminated"] == [[0], [1], [0], [0], [1]]
    assert rows["valid"] == [[1], [1], [0], [1], [1]]
    assert rows["start"] == [[1], [0], [0], [1], [0]]


@pytest.mark.parametrize("mode", [SAME, OFF])
def test_three_environments_end_at_their_own_times(mode):
    rows = play(started(mode, Counting(1), Counting(2, True), Counting(9)), 3)
    assert rows["obs"] == [[0, 0, 0], [0, 1, 1], [0, 0, 2]]
    assert rows["next_obs"] == [[1, 1, 1], [1, 2, 2], [1, 1, 3]]
    assert rows["terminated"] == [[1, 0, 0]] * 3
    assert rows["truncated"] == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert rows["start"] == [[1, 1, 1], [1, 0, 0], [1, 1, 0]]


def test_three_environments_reset_in_the_step_after():
    rows = play(started(NEXT, Counting(1), Counting(2, True), Counting(9)), 4)
    assert rows["next_obs"] == [[1, 1, 1], [0, 2, 2], [1, 0, 3], [0, 1, 4]]
    assert rows["valid"] == [[1, 1, 1], [0, 1, 1], [1, 0, 1], [0, 1, 1]]
    assert rows["start"] == [[1, 1, 1], [0, 0, 0], [1, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize("mode", [SAME, NEXT, OFF])
def test_episodes_are_tallied_by_hand(mode):
    envs, seen = started(mode, Counting(2), Counting(3, True)), []
    for _ in range(4):
        envs.step(torch.zeros(2, dtype=torch.int64))
        seen += envs.finished
    # 1 + 2 and 1 + 2 + 3; discounted by 1/2: 1 + 1 and 1 + 1 + 3/4.
    assert seen[0] == (0, 3.0, 2.0, 2, False)
    assert seen[1] == (1, 6.0, 2.75, 3, True)
    assert len(seen) == (2 if mode is NEXT else 3)


def test_actions_are_counted_from_the_spaces_start():
    env = Counting()
    envs = started(SAME, env)
    envs.step(torch.tensor([1]))
    assert env.taken == [6]


def test_masks_belong_to_the_true_next_observation():
    envs = started(SAME, Counting(1, True, mask=True))
    assert envs.spec.masked and envs.mask.tolist() == [[True, True]]
    transition = envs.step(torch.tensor([0]))
    assert transition.next_mask.tolist() == [[True, False]] and envs.mask.tolist() == [[True, True]]


@pytest.mark.parametrize(("mode", "bad", "steps"), [(SAME, 1, 1), (SAME, 2, 2), (OFF, 2, 2), (SAME, 0, 0)])
def test_an_observation_that_is_no_number_is_told_where(mode, bad, steps):
    with pytest.raises(
        EnvError, match=rf"got the observation nan at index \[0\] from environment 1 at step {steps}, wanted"
    ):
        play(started(mode, Counting(2), Counting(2, bad=bad)), 3)


def test_earlier_transitions_are_not_overwritten():
    envs = started(SAME, Counting(9))
    first = envs.step(torch.tensor([0]))
    envs.step(torch.tensor([0]))
    assert (first.obs.item(), first.next_obs.item(), first.reward.item()) == (0, 1, 1)


def test_reset_steps_are_no_transitions_and_pay_for_no_update():
    rollout = Rollout(Idle(), started(NEXT, Counting(2)), replay_ratio=0.5)
    assert [rollout.step() for _ in range(6)] == [1, 1, 0, 1, 1, 0]
    assert (rollout.transitions, rollout.episodes, rollout.updates) == (4, 2, 2)


# --- on a device -----------------------------------------------------------------------------------------------------


class Clocks(TensorEnv):
    """Shows a random number and the time; each environment ends after its own `length` steps; actions pay t + a."""

    single_observation_space, single_action_space = Box(-np.inf, np.inf, (2,), np.float32), Discrete(2, start=5)
    reset_noise = step_noise = 1

    def __init__(self, length, masked=False, bad=None, **kwargs):
        super().__init__(len(length), **kwargs)
        self.length, self.masked, self.bad = torch.tensor(length), masked, bad

    def initial(self, noise):
        return noise[:, 0], torch.zeros(len(noise))

    def dynamics(self, state, action, noise):
        t = state[1] + 1
        shown = noise[:, 0] if self.bad is None else torch.where(t == self.bad, torch.nan, noise[:, 0])
        return (shown, t), t + action, t >= self.length

    def observe(self, state):
        return torch.stack(state, 1)

    def allowed(self, state):
        return torch.stack((state[1] >= 0, state[1] % 2 == 0), 1) if self.masked else None


def on_device(env, discount=0.9, reported=None):
    out = DeviceVectorEnvAdapter(env, discount, reported)
    out.reset(seed=0)
    return out


TENSORS = {
    "clocks": lambda: Clocks([1, 2, 5, 9], max_episode_steps=5),
    "masked clocks": lambda: Clocks([1, 2, 5, 9], masked=True),
    "CartPole": lambda: TensorCartPole(4),
    "DeepSea": lambda: TensorDeepSea(4, 5, stochastic=True),
    "RiverSwim": lambda: TensorRiverSwim(4, 7),
}


@pytest.mark.parametrize("name", TENSORS)
def test_a_device_tells_what_a_host_would(name):
    """The same environment with arrays between, and without: 60 steps are equal in everything, to the last episode."""
    host, device = VectorEnvAdapter(Numpy(TENSORS[name]()), 0.9), on_device(TENSORS[name]())
    host.reset(seed=0)
    generator, episodes = torch.Generator().manual_seed(0), 0
    assert host.spec == device.spec and host.spec.masked == (name == "masked clocks")
    for _ in range(60):
        for field in ("obs", "start", "mask"):
            a, b = getattr(host, field), getattr(device, field)
            assert a is b is None or (torch.equal(a, b) and a.dtype == b.dtype), field
        action = torch.randint(2, (4,), generator=generator)
        for a, b, field in zip(host.step(action), device.step(action), Transition._fields, strict=True):
            assert a is b is None or (torch.equal(a, b) and a.dtype == b.dtype), field
        assert device.finished == host.finished and device.ended == host.ended and device.began == host.began
        np.testing.assert_array_equal(device.returns, host.returns)
        np.testing.assert_array_equal(device.lengths, host.lengths)
        episodes += len(host.finished)
    assert episodes == host.ended >= 4


def test_a_device_s_episodes_are_tallied_by_hand():
    """Rewards 5 + t and 6 + t: 6 + 7 in two steps and 7 + 8 + 9 cut after three, discounted by a half."""
    envs, seen = on_device(Clocks([2, 9], max_episode_steps=3), 0.5), []
    for _ in range(3):
        envs.step(torch.tensor([0, 1]))
        seen += envs.finished
    assert seen == [(0, 13.0, 9.5, 2, False), (1, 24.0, 13.25, 3, True)] and type(seen[0].env) is int
    assert envs.returns.tolist() == [6, 0] and envs.lengths.tolist() == [1, 0]


def test_only_the_first_are_told_and_all_are_counted():
    envs = on_device(Clocks([2] * 1000), reported=3)
    envs.step(torch.zeros(1000).long())
    assert envs.finished == [] and envs.ended == 0
    envs.step(torch.zeros(1000).long())
    assert [episode.env for episode in envs.finished] == [0, 1, 2] and envs.ended == 1000
    rollout = Rollout(Idle(), envs, 0.0)
    assert rollout.episodes == 0
    rollout.step(), rollout.step()
    assert (rollout.episodes, rollout.transitions) == (1000, 2000)


@pytest.mark.parametrize(("bad", "steps"), [(1, 1), (3, 3)])
def test_what_is_no_number_is_told_at_once_on_a_cpu(bad, steps):
    envs = on_device(Clocks([2, 4], bad=bad))
    with pytest.raises(EnvError, match=rf"of environment {int(bad == 3)} by step {steps}, wanted finite numbers: mend"):
        for _ in range(4):
            envs.step(torch.zeros(2).long())


def test_elsewhere_it_is_looked_for_now_and_then():
    envs = on_device(Clocks([9], bad=2))
    envs._watch = 5
    for _ in range(4):
        envs.step(torch.zeros(1).long())
    with pytest.raises(EnvError, match="by step 5"):
        envs.step(torch.zeros(1).long())


def test_a_step_on_a_device_is_not_read_by_the_host():
    class Unread(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            assert func.overloadpacket.__name__ not in ("_local_scalar_dense", "nonzero", "masked_select", "equal")
            return func(*args, **(kwargs or {}))

    envs = on_device(TensorCartPole(8))
    envs._watch = 1000
    with Unread():
        for _ in range(3):
            envs.step(torch.ones(8).long())


class Lever(Counting):
    """Takes two numbers, the first from -2 to 2 and the second from 0 to 1."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.action_space = Box(np.array([-2, 0], np.float32), np.array([2, 1], np.float32))

    def step(self, action):
        assert action in self.action_space
        self.taken.append(action.tolist())
        self.t += 1
        return np.array([self.t], np.float32), float(action[0]), self.t == self.length, False, {}


@pytest.mark.parametrize("mode", [SAME, NEXT, OFF])
def test_continuous_actions_reach_environments_in_their_units(mode):
    one = Lever(length=3)
    envs = started(mode, one)
    assert envs.spec.actions == 2 and envs.spec.bounds == ((-2, 0), (2, 1))
    action = torch.tensor([[0.5, 3.0]])
    transition = envs.step(action)
    assert one.taken == [[1.0, 1.0]] and transition.reward.item() == 1.0
    assert torch.equal(transition.action, action)  # what the agent emitted is what it learns from


def test_continuous_actions_reach_a_device_eager_and_captured():
    """A torque of -1 to 1 is one of -2 to 2 Newton meters: the pendulum's own step, 3 times."""
    eager, captured, own = on_device(TensorPendulum(4)), on_device(TensorPendulum(4)), TensorPendulum(4)
    captured.capture()
    own.reset(seed=0)
    for torque in (-0.25, 0.5, 1.5):
        transition, compiled = (envs.step(torch.full((4, 1), torque)) for envs in (eager, captured))
        obs, reward, *_ = own.step(torch.full((4, 1), 2 * min(torque, 1)))
        for a, b in ((transition.next_obs, obs), (transition.reward, reward)):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
        torch.testing.assert_close(transition.next_obs, compiled.next_obs, rtol=0, atol=1e-5)


def test_what_has_no_bounds_is_refused():
    one = Lever()
    one.action_space = Box(-np.inf, np.inf, (2,))
    with pytest.raises(EnvError, match=r"action_space: got Box.*wanted finite bounds"):
        started(SAME, one)


def test_a_captured_step_of_a_device_is_the_eager_one():
    """50 steps with masks and episodes: 1e-6, for small whole numbers and random ones that pass through unchanged."""
    eager, captured = (on_device(Clocks([2, 3, 9], masked=True, max_episode_steps=4)) for _ in range(2))
    captured.capture()
    for i in range(50):
        action = torch.tensor([i % 2, i % 3 == 0, 1]).long()
        for a, b in zip(eager.step(action), captured.step(action), strict=True):
            assert a.dtype == b.dtype and torch.allclose(a.double(), b.double(), atol=1e-6)
        assert eager.finished == captured.finished and eager.ended == captured.ended
    assert eager.ended > 30


def test_evaluation_plays_on_a_device():
    """Eight episodes of one policy, that pushes right: 8 to 11 steps from Gymnasium's starts."""

    class Right(Idle):
        see = staticmethod(lambda obs, start, seen=None: obs)
        greedy = staticmethod(lambda obs, mask=None: torch.ones(len(obs), dtype=torch.int64))

    result = evaluate(Right(), DeviceVectorEnvAdapter(TensorCartPole(3)), 8, seed=0)
    assert len(result.returns) == 8 and set(result.returns) <= {8, 9, 10, 11}
    np.testing.assert_array_equal(result.returns, result.lengths)


@pytest.mark.parametrize("env", ["cartpole", "river_swim"])
def test_training_on_a_device_goes_on_bit_for_bit(env, tmp_path):
    """800 transitions at once are 400 and 400 more; and evaluation finds the same environments again."""
    words = [f"env={env}", "env.num_envs=16", "env.vectorization=device", "posterior.draws=3", "replay_ratio=0.05"]
    train(*words, "steps=800", f"run_dir={tmp_path / 'whole'}")
    train(*words, "steps=400", f"run_dir={tmp_path / 'halves'}")
    resume(tmp_path / "halves", "steps=800")
    same(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "halves"))
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "halves")
    assert evaluate_command([f"run={tmp_path / 'whole'}", "episodes=3"]) == 0


def test_training_on_a_device_needs_tensors(capsys):
    from bayesrl.train import main

    assert main(["env=catch", "env.vectorization=device"]) == 2
    said = capsys.readouterr().err
    assert (
        "got vectorization='device' for bayesrl/Catch-v0, wanted an environment in tensors, which there is of" in said
    )
    assert said.count("error:") == 1
