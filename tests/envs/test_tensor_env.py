"""Environments in tensors make Gymnasium's transitions, end and begin episodes as they should, and wait for nobody."""

import sys

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete
from torch.utils._python_dispatch import TorchDispatchMode

from bayesrl.envs import (
    DeepSea,
    DeepSeaVector,
    EnvError,
    Numpy,
    RiverSwim,
    Single,
    TensorAcrobot,
    TensorCartPole,
    TensorContinuousMountainCar,
    TensorDeepSea,
    TensorEnv,
    TensorMountainCar,
    TensorPendulum,
    TensorRiverSwim,
    check,
    flatten,
    load_state,
    make,
    normal,
    observation_layout,
    save_state,
    single,
)
from bayesrl.envs.tasks.deep_sea import dive
from bayesrl.envs.vector.tensor_env import flat

CLASSIC = {
    "CartPole-v1": (TensorCartPole, [2.6, 3.0, 0.25, 3.0], 1e-6),
    "Acrobot-v1": (TensorAcrobot, [np.pi, np.pi, 4 * np.pi, 9 * np.pi], 1e-3),
    "MountainCar-v0": (TensorMountainCar, [1.2, 0.07], 1e-6),
    "MountainCarContinuous-v0": (TensorContinuousMountainCar, [1.2, 0.07], 1e-6),
    "Pendulum-v1": (TensorPendulum, [10.0, 8.0], 1e-6),
}  # id: class, the largest states, tolerance in float32
DISCRETE = (TensorCartPole, TensorAcrobot, TensorMountainCar, TensorDeepSea, TensorRiverSwim)
ALL = (*DISCRETE, TensorContinuousMountainCar, TensorPendulum)

TANK = """
import torch
from gymnasium.spaces import Box, Discrete

from bayesrl.envs import TensorEnv


class Tank(TensorEnv):
    single_observation_space = Box(0, 1, (1,))
    single_action_space = Discrete(2)
    max_episode_steps = 50
    reset_noise = step_noise = 1

    def initial(self, noise):
        return (0.25 + noise[:, 0] / 2,)

    def dynamics(self, state, action, noise):
        level = (state[0] + 0.1 * action - 0.1 * noise[:, 0]).clamp(0, 1)
        return (level,), 1 - (level - 0.5).abs(), level == 0

    def observe(self, state):
        return state[0][:, None]
"""


@pytest.fixture
def tank(tmp_path, monkeypatch):
    """A user's module `tank`."""
    (tmp_path / "tank.py").write_text(TANK)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("tank", None)


class Counting(TensorEnv):
    """Shows 0, 1, 2, ... from a random start; environments end after `length` steps of their own."""

    single_observation_space = Box(-np.inf, np.inf, (2,), np.float32)
    single_action_space = Discrete(2)
    reset_noise = 1

    def __init__(self, length, masked=False, **kwargs):
        super().__init__(len(length), **kwargs)
        self.length, self.masked = torch.tensor(length), masked

    def initial(self, noise):
        return noise[:, 0], torch.zeros(len(noise))

    def dynamics(self, state, action, noise):
        t = state[1] + 1
        return (state[0], t), t + 10 * action, t == self.length

    def observe(self, state):
        return torch.stack(state, 1)

    def allowed(self, state):
        return torch.stack((state[1] >= 0, state[1] % 2 == 0), 1) if self.masked else None


def started(cls, num_envs=64, seed=0, **kwargs):
    env = cls(num_envs, **kwargs)
    env.action_space.seed(seed)
    env.reset(seed=seed)
    return env


def play(env, steps):
    """The results of random steps."""
    return [env.step(env.action_space.sample()) for _ in range(steps)]


def same(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        for p, q in zip(x[:4], y[:4], strict=True):
            assert torch.equal(p, q)
        assert torch.equal(x[4]["final_obs"], y[4]["final_obs"])


# --- dynamics --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("env_id", CLASSIC)
def test_transitions_are_gymnasiums(env_id):
    """100,000 random states, those beyond the limits included, and actions, fed to both.

    In float64 all ends are the same and numbers agree to 1e-10 of their range, a thousand roundings and more. In
    float32, as they run, to some ten roundings of 6e-8; Acrobot at 9 pi rad/s multiplies a rounding by a thousand in
    its step of 0.2 s. There at most 5 ends differ, of states within a rounding of the limit.
    """
    cls, most, single_precision = CLASSIC[env_id]
    theirs, rng, n = gym.make(env_id).unwrapped, np.random.default_rng(0), 100_000
    continuous = isinstance(theirs.action_space, Box)
    theirs.reset(seed=0)
    states = rng.uniform(-1, 1, (n, len(most))) * most
    if "MountainCar" in env_id:
        states[:, 0] = rng.uniform(-1.2, 0.6, n)
        states[:100, 0] = -1.2
    actions = rng.uniform(-3, 3, (n, 1)) if continuous else rng.integers(theirs.action_space.n, size=n)
    rows, seen, rewards, ends = np.empty_like(states), [], np.empty(n), np.empty(n, bool)
    for i, (state, action) in enumerate(zip(states, actions, strict=True)):
        theirs.state, theirs.steps_beyond_terminated = state, None
        obs, rewards[i], ends[i], _, _ = theirs.step(action)
        rows[i] = theirs.state
        seen.append(obs)
    assert env_id == "Pendulum-v1" or 0.01 < ends.mean() < 0.99
    scale = np.abs(rows).max(0)
    exact = 1e-7 if env_id == "MountainCarContinuous-v0" else 1e-10  # whose states are float32 in Gymnasium too
    for dtype, tolerance in ((torch.float64, exact), (torch.float32, single_precision)):
        ours, given = cls(1), torch.as_tensor(actions, dtype=dtype if continuous else torch.int64)
        after, reward, ended = ours.dynamics(torch.as_tensor(states, dtype=dtype).unbind(1), given, torch.empty(n, 0))
        apart = torch.stack(after, 1).double().numpy() - rows
        if env_id == "Acrobot-v1":
            apart[:, :2] = (apart[:, :2] + np.pi) % (2 * np.pi) - np.pi  # pi and -pi are one angle
        assert (np.abs(apart) <= tolerance * scale).all()
        agree = ended.numpy() == ends
        assert (~agree).sum() <= (0 if dtype is torch.float64 else 5)
        np.testing.assert_allclose(reward.double().numpy()[agree], rewards[agree], rtol=10 * tolerance, atol=tolerance)
        spread = np.abs(ours.observe(after).double().numpy() - np.stack(seen)).max(0)
        assert (spread <= max(tolerance, 1e-7) * np.maximum(1, np.abs(seen).max(0)) * 10).all()


@pytest.mark.parametrize("barto", [False, True])
def test_cartpole_pays_as_gymnasiums_native_vector(barto):
    ours, theirs = (
        TensorCartPole(100, sutton_barto_reward=barto),
        gym.make_vec("CartPole-v1", 100, "vector_entry_point"),
    )
    theirs = type(theirs)(100, sutton_barto_reward=barto)
    theirs.reset(seed=0)
    theirs.state = np.random.default_rng(0).uniform(-1, 1, (4, 100)) * np.array([[2.6], [3], [0.25], [3]])
    after, reward, ended = ours.dynamics(tuple(torch.tensor(theirs.state)), torch.ones(100).long(), torch.empty(100, 0))
    obs, wanted, ends, _, _ = theirs.step(np.ones(100, int))
    np.testing.assert_array_equal(reward.numpy(), wanted)
    np.testing.assert_array_equal(ended.numpy(), ends)
    np.testing.assert_allclose(torch.stack(after, 1).numpy(), obs, atol=1e-6)


def test_deep_sea_is_the_host_s():
    """100,000 random transitions side by side; rewards to float32's rounding of 0.99, 6e-8."""
    ours, theirs = TensorDeepSea(1000, 7, 3), DeepSeaVector(1000, 7, 3)
    ours.reset(seed=0)
    theirs.reset(seed=0)
    for _ in range(100):
        action = ours.action_space.sample()
        got, wanted = ours.step(action), theirs.step(action)
        np.testing.assert_array_equal(got[0].numpy(), wanted[0])
        np.testing.assert_allclose(got[1].numpy(), wanted[1], atol=6e-8)
        np.testing.assert_array_equal(got[2].numpy(), wanted[2])
        assert got[0].dtype == torch.uint8 and not got[3].any()
        if wanted[2].any():
            np.testing.assert_array_equal(got[4]["final_obs"].numpy(), np.stack(wanted[4]["final_obs"]))


def test_stochastic_deep_sea_is_the_host_s():
    """10,000 cells, actions, gusts and waves, fed to both."""

    class Fed:
        random = staticmethod(lambda n: noise[:, 0].numpy())
        standard_normal = staticmethod(lambda n: normal(noise[:, 1]).numpy())

    ours = TensorDeepSea(10_000, size=4, stochastic=True)
    noise = torch.rand(10_000, 2, generator=torch.Generator().manual_seed(0))
    row, column, action = torch.randint(4, (3, 10_000), generator=torch.Generator().manual_seed(1))
    action = action % 2
    (below, beside), reward, over = ours.dynamics((row, column), action, noise)
    mapping = ours.mapping.view(4, 4).numpy()
    wanted, pay = dive(mapping, row.numpy(), column.numpy(), action.numpy(), Fed())
    np.testing.assert_array_equal(beside.numpy(), wanted)
    np.testing.assert_allclose(reward.numpy(), pay, atol=1e-6)
    assert torch.equal(below, row + 1) and torch.equal(over, row == 3)


def test_river_swim_flows_as_the_host_s():
    """On 1,000 evenly spaced random numbers each next state is counted 1000 P times, give or take 1 at a bound."""
    ours, theirs, n = TensorRiverSwim(1000, size=5), RiverSwim(5), 1000
    noise = ((torch.arange(n) + 0.5) / n)[:, None]
    for state in range(5):
        for action in range(2):
            (after,), reward, over = ours.dynamics((torch.full((n,), state),), torch.full((n,), action), noise)
            counts = torch.bincount(after, minlength=5).numpy()
            assert np.abs(counts - n * theirs.P[state, action]).max() <= 1
            np.testing.assert_allclose(reward.numpy(), theirs.R[state, action], rtol=1e-7)
            assert not over.any()


def test_normal_numbers_are_normal():
    """Of 100,000 uniform ones: four standard deviations of mean, variance and fourth moment; 0 is finite."""
    x = normal(torch.rand(100_000, generator=torch.Generator().manual_seed(0)))
    assert abs(x.mean()) < 4 * 0.0032 and abs(x.var() - 1) < 4 * 0.0045 and abs((x**4).mean() - 3) < 4 * 0.031
    assert normal(torch.zeros(1)).isfinite().all()


# --- episodes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", ALL)
def test_episodes_end_and_begin_in_one_step(cls):
    """Over 40 random steps with a limit of 9, or DeepSea's 9 rows: each is `dynamics` and, at an end, `initial`."""
    env = started(cls, size=9) if cls is TensorDeepSea else started(cls, max_episode_steps=9)
    clock, ends = torch.zeros(64), 0
    for _ in range(40):
        fresh, noise = env.draw()
        env.draw = lambda: (fresh, noise)  # noqa: B023
        action = torch.as_tensor(env.action_space.sample())
        after, reward, terminated = env.dynamics(env.state, action, noise)
        obs, got, over, cut, infos = env.step(action)
        del env.draw
        clock += 1
        done = terminated | (clock == 9)
        assert torch.equal(infos["final_obs"], env.observe(after)) and torch.equal(infos["_final_obs"], done)
        assert torch.equal(obs[done], env.observe(env.initial(fresh))[done]) and torch.equal(got, reward.float())
        assert torch.equal(obs[~done], infos["final_obs"][~done])
        assert torch.equal(over, terminated)
        assert torch.equal(cut, (clock == 9) & (cls is not TensorDeepSea))
        clock[done] = 0
        assert torch.equal(env.clock.float(), clock)
        ends += int(done.sum())
    assert ends >= 4 * 64


def test_an_episode_may_both_end_and_be_cut():
    env = Counting([2, 3, 5], max_episode_steps=3)
    env.reset(seed=0)
    flags = [[flag.tolist() for flag in step[2:4]] for step in play(env, 3)]
    assert flags[1:] == [[[True, False, False], [False] * 3], [[False, True, False], [False, True, True]]]


def test_no_start_is_used_twice():
    """Episodes of 2 and 3 steps with numbers drawn only every 2 steps: 10,000 starts, each its own.

    48 random bits a start, so that two are equal by chance with probability 2e-7.
    """

    class Pairs(Counting):
        reset_noise, min_episode_steps = 2, 2

        def initial(self, noise):
            return noise[:, 0] + noise[:, 1].double() / 2**24, torch.zeros(len(noise))

        def observe(self, state):
            return torch.stack(state, 1).float()

    env = Pairs([2, 3] * 500)
    starts = []
    for _ in range(2):
        env.reset()
        starts.append(env.state[0].clone())
        for _ in range(11):
            done = env.step(np.zeros(1000, int))[4]["_final_obs"]
            starts.append(env.state[0][done])
    starts = torch.cat(starts)
    assert len(starts) == 2 * (1000 + 500 * 5 + 500 * 3) and len(starts.unique()) == len(starts)


@pytest.mark.parametrize(("cls", "actions"), [(TensorCartPole, 2), (TensorAcrobot, 3)])
def test_no_episode_is_shorter_than_said(cls, actions):
    """All sequences of actions, from every corner of the first states and 50 more."""
    env = cls(1)
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)
    state = env.initial(torch.cat((corners, torch.rand(50, 4, generator=torch.Generator().manual_seed(0)))))
    for _ in range(env.min_episode_steps - 1):
        action = torch.arange(actions).repeat_interleave(len(state[0]))
        state, _, ended = env.dynamics(tuple(s.repeat(actions) for s in state), action, torch.empty(0))
        assert not ended.any()


def test_first_states_are_gymnasiums():
    """10,000 of each: bounds are exact; a uniform mean's standard deviation is 0.0029 of the width, and 4 pass."""
    for env_id, low, high in (
        ("CartPole-v1", [-0.05] * 4, [0.05] * 4),
        ("Acrobot-v1", [-0.1] * 4, [0.1] * 4),
        ("MountainCar-v0", [-0.6, 0], [-0.4, 0]),
        ("MountainCarContinuous-v0", [-0.6, 0], [-0.4, 0]),
        ("Pendulum-v1", [-np.pi, -1], [np.pi, 1]),
    ):
        states = torch.stack(started(CLASSIC[env_id][0], 10_000).state, 1).double().numpy()
        low, high = np.array(low), np.array(high)
        assert (states >= low - 1e-6).all() and (states <= high + 1e-6).all()
        assert (np.abs(states.mean(0) - (low + high) / 2) <= 0.0116 * (high - low)).all()
        theirs = gym.make(env_id).unwrapped
        drawn = np.stack([(theirs.reset(seed=i), theirs.state)[1] for i in range(300)])
        assert (drawn >= low).all() and (drawn <= high).all()
        assert (np.ptp(drawn, 0) >= 0.95 * (high - low)).all()  # 300 uniform numbers span less with probability 4e-6


# --- reproducing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", ALL)
def test_a_seed_tells_everything(cls):
    same(play(started(cls, 4, seed=5), 150), play(started(cls, 4, seed=5), 150))
    a = started(cls, 4, seed=5)
    if cls not in (TensorDeepSea, TensorRiverSwim):
        assert not torch.equal(a.state[0], started(cls, 4, seed=6).state[0])
        first = a.reset()[0]
        assert not torch.equal(first, a.reset()[0])


@pytest.mark.parametrize("cls", ALL)
def test_a_captured_state_goes_on_bit_for_bit(cls):
    env = started(cls, 3)
    play(env, 37)
    state = save_state(env)
    env.action_space.seed(1)
    wanted = play(env, 300)
    for other in (cls(3), env):
        load_state(other, state)
        other.action_space.seed(1)
        same(play(other, 300), wanted)


# --- Gymnasium -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", ALL)
def test_numpy_in_and_out(cls):
    """Arrays of the spaces, to the same numbers; and Gymnasium's own wrapper counts episodes with them."""
    env, plain = started(cls, 5, seed=2), Numpy(cls(5))
    obs, infos = plain.reset(seed=2)
    assert plain.observation_space.contains(obs) and infos == {}
    for _ in range(20):
        action = plain.action_space.sample()
        obs, reward, terminated, truncated, infos = plain.step(action)
        assert plain.observation_space.contains(obs) and plain.observation_space.contains(infos["final_obs"])
        assert (reward.dtype, terminated.dtype, truncated.dtype) == (np.float32, bool, bool)
        tensor = env.step(torch.as_tensor(action))
        np.testing.assert_array_equal(obs, tensor[0].numpy())
        np.testing.assert_array_equal(reward, tensor[1].numpy())
    counted = gym.wrappers.vector.RecordEpisodeStatistics(Numpy(started(cls, 5)))
    counted.reset(seed=0)
    for _ in range(1020):
        counted.step(counted.action_space.sample())
    assert counted.episode_count >= 5


@pytest.mark.parametrize("cls", DISCRETE)
def test_a_single_one_keeps_gymnasiums_laws(cls):
    check(single(cls))
    envs, choice = make(cls, 2, vectorization="sync")
    envs.reset(seed=0)
    assert choice == "sync" and isinstance(envs.envs[0].unwrapped, Single)
    steps = [envs.step(envs.action_space.sample()) for _ in range(130)]
    assert cls in (TensorAcrobot, TensorMountainCar) or any("final_obs" in step[4] for step in steps)


def test_a_single_one_is_a_row_of_the_vector():
    env, one = started(TensorCartPole, 1, seed=4), Single(TensorCartPole(1))
    np.testing.assert_array_equal(one.reset(seed=4)[0], env.reset(seed=4)[0][0])
    for _ in range(100):
        action = env.action_space.sample()
        got, wanted = one.step(action[0]), env.step(action)
        np.testing.assert_array_equal(got[0], wanted[4]["final_obs"][0])
        assert got[1:4] == tuple(x.item() for x in wanted[1:4])
        if got[2]:
            return
    raise AssertionError("no episode ended")


@pytest.mark.parametrize(
    ("space", "obs"),
    [
        (Discrete(4, start=2), torch.tensor([2, 5, 3])),
        (MultiDiscrete([2, 3], start=[1, 0]), torch.tensor([[1, 0], [2, 2]])),
        (MultiBinary([2, 2]), torch.tensor([[[0, 1], [1, 1]]], dtype=torch.int8)),
        (Box(-1, 1, (2, 3)), torch.rand(4, 2, 3)),
        (Box(0, 255, (4, 4, 3), np.uint8), torch.ones(2, 4, 4, 3, dtype=torch.uint8)),
        (DeepSea(3).observation_space, torch.tensor([[[0, 0, 0], [0, 1, 0], [0, 0, 0]], [[0] * 3] * 3]).byte()),
    ],
)
def test_agents_see_the_same_as_of_arrays(space, obs):
    got, wanted = flat(space, obs), flatten(space, obs.numpy())
    np.testing.assert_array_equal(got.numpy(), wanted)
    assert str(got.dtype).endswith(observation_layout(space).dtype) and got.numpy().dtype == wanted.dtype


@pytest.mark.parametrize("cls", DISCRETE)
def test_features_are_of_the_observation(cls):
    env = started(cls, 20)
    for _ in range(15):
        state, _, _ = env.dynamics(env.state, torch.as_tensor(env.action_space.sample()), env.draw()[1])
        assert torch.equal(env.features(state), flat(env.single_observation_space, env.observe(state)))
        play(env, 1)


# --- devices ---------------------------------------------------------------------------------------------------------


class Unread(TorchDispatchMode):
    """Refuses what would make the host wait for a device: reading a number, or shapes that depend on data."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func.overloadpacket.__name__ not in ("_local_scalar_dense", "nonzero", "masked_select", "equal", "item")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("cls", ALL)
def test_no_step_is_read_by_the_host(cls):
    env = started(cls)
    actions = [torch.as_tensor(env.action_space.sample()) for _ in range(3)]
    with Unread():
        for action in actions:
            env.step(action)


def test_a_captured_step_is_the_eager_one():
    """100 steps of 16 environments, resets and masks included: 1e-5, some roundings of numbers up to 100."""
    eager, compiled = (Counting([3] * 8 + [7] * 8, masked=True, max_episode_steps=6) for _ in range(2))
    compiled.capture()
    eager.reset(seed=0), compiled.reset(seed=0)
    for _ in range(100):
        action = eager.action_space.sample()
        a, b = eager.step(action), compiled.step(action)
        for x, y in zip((*a[:4], *a[4].values()), (*b[:4], *b[4].values()), strict=True):
            x, y = (v["action_mask"] if isinstance(v, dict) else v for v in (x, y))
            assert x.dtype == y.dtype and torch.allclose(x.double(), y.double(), atol=1e-5)


# --- make ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env_id", "kwargs", "cls", "limit"),
    [
        ("CartPole-v1", {}, TensorCartPole, 500),
        ("CartPole-v0", {"sutton_barto_reward": True}, TensorCartPole, 200),
        ("Acrobot-v1", {"max_episode_steps": 70}, TensorAcrobot, 70),
        ("MountainCar-v0", {}, TensorMountainCar, 200),
        ("MountainCarContinuous-v0", {"goal_velocity": 0.01}, TensorContinuousMountainCar, 999),
        ("Pendulum-v1", {"g": 9.81}, TensorPendulum, 200),
        ("bayesrl/DeepSea-v0", {"size": 6, "seed": 4}, TensorDeepSea, None),
        ("bayesrl/RiverSwim-v0", {}, TensorRiverSwim, 120),
    ],
)
def test_device_is_had_on_demand(env_id, kwargs, cls, limit):
    env, choice = make(env_id, 3, kwargs, vectorization="device")
    assert choice == "device" and type(env) is cls and (env.num_envs, env.max_episode_steps) == (3, limit)
    host = gym.spec(env_id).make(**kwargs)
    assert env.single_observation_space == host.observation_space and env.single_action_space == host.action_space
    assert env.reset(seed=0)[0].shape == env.observation_space.shape
    assert make(env_id, 3, kwargs)[1] != "device"


def test_a_users_own_is_one_class_in_a_file(tank):
    for env_id in ("tank:Tank", "tank:test/Tank-v0"):
        if env_id.endswith("v0"):
            gym.register("test/Tank-v0", vector_entry_point="tank:Tank", max_episode_steps=20)
        try:
            env, choice = make(env_id, 7)
            assert choice == "device" and env.max_episode_steps == (20 if "v0" in env_id else 50)
            check(single(env_id))
            env.reset(seed=0)
            assert any(step[3].any() for step in play(env, 60))
        finally:
            gym.registry.pop("test/Tank-v0", None)


class Wrong(Counting):
    def __init__(self, num_envs=4, device="cpu", **kwargs):
        super().__init__([9] * num_envs, device=device)
        vars(self).update(kwargs)


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        (
            {"observe": lambda s: s[0]},
            "observe: got [4] torch.float32 on cpu, wanted [4, 2] torch.float32 on cpu; each of",
        ),
        (
            {"observe": lambda s: torch.stack(s, 1).double()},
            "observe: got [4, 2] torch.float64 on cpu, wanted [4, 2] tor",
        ),
        ({"initial": lambda u: (u, u)}, "dynamics reward: got [4, 4]"),
        ({"initial": lambda u: (u[:1, 0], u[:, 0])}, "initial state[0]: got [1] torch.float32 on cpu, wanted [4]"),
        ({"dynamics": lambda s, a, u: (s[:1], s[0], s[0] > 0)}, "dynamics: got a state of 1 tensors, wanted the 2"),
        (
            {"dynamics": lambda s, a, u: (s, s[0].sum(), s[0] > 0)},
            "dynamics reward: got [] torch.float32 on cpu, wanted",
        ),
        (
            {"dynamics": lambda s, a, u: (s, s[0], s[0])},
            "dynamics terminated: got [4] torch.float32 on cpu, wanted [4]",
        ),
        (
            {"dynamics": lambda s, a, u: ((s[0], a), s[0], s[0] > 0)},
            "dynamics state[1]: got [4] torch.int64 on cpu, wan",
        ),
        ({"single_observation_space": Dict(a=Discrete(2))}, "got the observation space Dict('a': Discrete(2)), wanted"),
    ],
)
def test_wrong_tensors_are_told_at_the_first_reset(kwargs, words):
    with pytest.raises(EnvError) as caught:
        Wrong(**kwargs).reset(seed=0)
    assert words in str(caught.value)


def test_each_error_is_one_sentence():
    with pytest.raises(
        EnvError, match="got vectorization='device' for FrozenLake-v1, wanted an environment in tensors, which"
    ):
        make("FrozenLake-v1", 2, vectorization="device")
    with pytest.raises(
        EnvError, match=r"of Acrobot-v1, CartPole-v0, .*; write one as a bayesrl.envs.TensorEnv, or choose"
    ):
        make(DeepSea, 2, vectorization="device")
    with pytest.raises(EnvError, match="got 'sise' for bayesrl/DeepSea-v0, wanted only 'num_envs', 'size'"):
        make("bayesrl/DeepSea-v0", 2, {"sise": 3}, vectorization="device")
    with pytest.raises(EnvError, match=r"got num_envs=0, max_episode_steps=500, wanted at least 1 of each"):
        TensorCartPole(0)
    env = TensorCartPole(3)
    with pytest.raises(EnvError, match=r"got a step before the first reset, wanted actions \[3\] after reset\(\)"):
        env.step(np.zeros(3, int))
    env.reset(seed=0)
    with pytest.raises(
        EnvError, match=r"got actions of shape \[2\], wanted actions \[3\] after reset\(\): give one to"
    ):
        env.step(np.zeros(2, int))
