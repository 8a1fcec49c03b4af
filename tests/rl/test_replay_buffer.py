"""n steps by hand: gamma = 1/2 and rewards 1, 2, 4, ... so that every sum is exact; windows by brute force."""

import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from bayesrl.rl.replay_buffer import ReplayBuffer
from bayesrl.rl.types import EnvSpec, Transition
from bayesrl.training.vector_env import VectorEnvAdapter
from support.environments import Numbered


def row(t, E=1, terminated=False, truncated=False, valid=True, mask=None):
    """Step t: obs 10 t + e, reward 2^t, action t % 3, next obs 10 t + e + 5."""
    obs = 10.0 * t + torch.arange(float(E))[:, None]
    flag = lambda value: torch.tensor([value] * E if isinstance(value, bool) else value)  # noqa: E731
    return Transition(
        obs,
        torch.full((E,), t % 3),
        torch.full((E,), 2.0**t),
        flag(terminated),
        flag(truncated),
        obs + 5,
        flag(valid),
        mask,
    )


def filled(rows, capacity=8, n_step=3, E=1, history=1):
    spec = EnvSpec((1,), torch.float32, 3, E)
    replay = ReplayBuffer(spec, torch.empty(1, 0), capacity, n_step, 0.5, history=history)
    for one in rows:
        replay.add(one, torch.empty(E, 0))
    return replay


def windows(replay, *index):
    sample = replay.gather(torch.tensor(index))
    assert sample.action.dtype == torch.int64 and sample.size.dtype == torch.float32
    return list(
        zip(
            *(part.flatten().tolist() for part in (sample.reward, sample.discount, sample.next_obs, sample.weight)),
            strict=True,
        )
    )


def test_a_window_inside_an_episode():
    replay = filled([row(t) for t in range(4)])
    assert windows(replay, 0, 1) == [(1 + 1 + 1, 0.125, 25, 1), (2 + 2 + 2, 0.125, 35, 1)]


def test_termination_ends_a_window_without_bootstrap():
    replay = filled([row(0), row(1, terminated=True), row(2), row(3)])
    assert windows(replay, 0, 1) == [(2, 0, 15, 1), (2, 0, 15, 1)]


def test_truncation_ends_a_window_with_bootstrap_from_its_true_next_observation():
    replay = filled([row(0), row(1, truncated=True), row(2), row(3)])
    assert windows(replay, 0, 1) == [(2, 0.25, 15, 1), (2, 0.5, 15, 1)]


def test_a_reset_step_has_no_weight():
    replay = filled([row(0), row(1, terminated=True), row(2, valid=False), row(3), row(4)])
    assert [w[3] for w in windows(replay, 0, 1, 2)] == [1, 1, 0]


def test_windows_of_several_environments_do_not_mix():
    replay = filled([row(0, 2), row(1, 2, terminated=[True, False]), row(2, 2)], capacity=16, E=2)
    assert windows(replay, 0, 1) == [(2, 0, 15, 1), (3, 0.125, 26, 1)]


def test_the_ring_forgets_the_oldest_and_windows_cross_its_seam():
    replay = filled([row(t) for t in range(6)], capacity=4)
    assert replay.columns["obs"].flatten().tolist() == [40, 50, 20, 30]
    assert windows(replay, 2, 3) == [(12, 0.125, 45, 1), (24, 0.125, 55, 1)]
    assert set(replay.index(200).tolist()) == {2, 3}  # never a window that reaches over the newest row
    assert len(replay) == 2 and replay.size == 4


def test_size_makes_a_batch_stand_for_the_memory():
    """size / B times the sum of weights estimates the number of transitions: 3 of 4 rows, 100,000 draws, 5 errors."""
    torch.manual_seed(0)
    replay = filled([row(t, valid=t != 1) for t in range(3)], capacity=4, n_step=1)
    address = replay.size.data_ptr()
    replay.add(row(3), torch.empty(1, 0))
    assert replay.size == 4 and replay.size.data_ptr() == address
    sample = replay.gather(replay.index(100_000))
    assert (sample.size / 100_000 * sample.weight.sum()).item() == pytest.approx(
        3, abs=5 * 4 * (3 / 16 / 100_000) ** 0.5
    )
    replay.add(row(4), torch.empty(1, 0))
    assert replay.size == 4


def test_every_window_is_sampled_equally_often():
    torch.manual_seed(0)
    replay = filled([row(t, 2) for t in range(7)], capacity=10, n_step=2, E=2)  # T = 5: 4 windows of 2 environments
    counts = torch.bincount(replay.index(8000), minlength=10)
    assert (counts > 0).sum() == len(replay) == 8
    assert (counts[counts > 0] - 1000).abs().max() < 5 * (8000 * 1 / 8 * 7 / 8) ** 0.5


@pytest.mark.parametrize("tags", [torch.tensor([[True, False]]), torch.tensor([[0.25, -3.0]])])
def test_tags_come_back_with_their_type(tags):
    replay = ReplayBuffer(EnvSpec((1,), torch.float32, 3), tags, 4, 1, 0.5)
    replay.add(row(0), tags)
    got = replay.gather(torch.tensor([0])).tags
    assert torch.equal(got, tags) and got.dtype == tags.dtype


def test_masks_and_bytes_are_kept():
    replay = ReplayBuffer(EnvSpec((2, 2, 1), torch.uint8, 2, masked=True), torch.empty(1, 0), 4, 1, 0.5)
    obs = torch.arange(252, 256, dtype=torch.uint8).view(1, 2, 2, 1)
    replay.add(row(0, mask=torch.tensor([[True, False]]))._replace(obs=obs, next_obs=obs), torch.empty(1, 0))
    sample = replay.gather(torch.tensor([0]))
    assert torch.equal(sample.obs, obs) and sample.next_obs.dtype == torch.uint8
    assert sample.next_mask.tolist() == [[True, False]]


def test_continuous_actions_are_kept_whole():
    """Two numbers an action beside a tag, sampled and restored."""
    spec = EnvSpec((1,), torch.float32, 2, 3, bounds=((-1, 0), (1, 5)))
    one, other = (ReplayBuffer(spec, torch.empty(1, 1), 30, 2, 0.5) for _ in range(2))
    for t in range(6):
        action = torch.tensor([[t, -e] for e in range(3)]) / 8
        one.add(row(t, 3)._replace(action=action), torch.full((3, 1), 10.0 * t))
    other.restore(one.rows_since(0), 6)
    for replay in (one, other):
        sample = replay.gather(torch.tensor([4, 9]))  # environment 1 at t = 1, environment 0 at t = 3
        assert sample.action.tolist() == [[0.125, -0.125], [0.375, 0]] and sample.tags.tolist() == [[10], [30]]
        assert sample.reward.tolist() == [2 + 0.5 * 4, 8 + 0.5 * 16]


def test_rows_come_back_where_they_were():
    replay = filled([row(t, valid=t != 4) for t in range(7)], capacity=4)
    other = filled([], capacity=4)
    other.restore(replay.rows_since(0), replay.rows)
    for name, column in replay.columns.items():
        assert torch.equal(column, other.columns[name])
    assert (other.rows, other.size) == (7, 4)
    assert replay.rows_since(5)["reward"].flatten().tolist() == [32, 64]


def test_too_much_memory_is_told_with_a_remedy(monkeypatch):
    monkeypatch.setattr("bayesrl.rl.replay_buffer.free_memory", lambda device: 2**20)
    with pytest.raises(
        MemoryError, match=r"got a replay of 1,000,000 transitions .* wanted .* free on cpu: lower agent.capacity to"
    ):
        filled([], capacity=1_000_000)


@pytest.mark.parametrize("kwargs", [{"capacity": 3}, {"n_step": 0}, {"n_step": 2, "capacity": 5, "history": 4}])
def test_nonsense_is_refused(kwargs):
    with pytest.raises(ValueError, match=r"got .*, wanted"):
        filled([], **kwargs)


def last(W, seen):
    """The window of a list of observations, by hand."""
    return [[0.0, 0.0]] * (W - len(seen)) + [[1.0, s] for s in seen[-W:]]


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("rows", [12, 20, 21, 70])
def test_windows_by_brute_force(mode, n_step, rows):
    """Every step that can be sampled, of 3 environments in a memory of 20 rows: filling, just full, gone round."""
    W, E, T = 4, 3, 20
    envs = VectorEnvAdapter(SyncVectorEnv([Numbered] * E, autoreset_mode=mode))
    envs.reset(seed=0)
    replay = ReplayBuffer(envs.spec, torch.empty(1, 0), T * E, n_step, 0.5, history=W)
    story = [[] for _ in range(E)]
    told = []  # by row: each environment's past, its next observation, whether its episode ended
    for _ in range(rows):
        for e in range(E):
            story[e] = [*([] if envs.start[e] else story[e]), envs.obs[e].item()]
        transition = envs.step(torch.zeros(E, dtype=torch.int64))
        replay.add(transition, torch.empty(E, 0))
        done = transition.terminated | transition.truncated
        told.append([(story[e], transition.next_obs[e].item(), bool(done[e])) for e in range(E)])
    first = 0 if rows < T else rows - T + W - 1  # before it, the past has been written over
    assert replay.oldest == first and len(replay) == (rows - first - n_step + 1) * E
    index = [(row % T) * E + e for row in range(first, rows - n_step + 1) for e in range(E)]
    assert set(replay.index(3000).tolist()) == set(index)
    sample = replay.gather(torch.tensor(index))
    places, checked = [(row, e) for row in range(first, rows - n_step + 1) for e in range(E)], 0
    for i, (row, e) in enumerate(places):
        if sample.weight[i] == 0:
            assert mode is AutoresetMode.NEXT_STEP
            continue
        end = next(r for r in range(row, row + n_step) if told[r][e][2] or r == row + n_step - 1)
        seen, after = told[end][e][:2]
        assert sample.obs[i].tolist() == last(W, told[row][e][0])
        assert sample.next_obs[i].tolist() == last(W, [*seen, after])
        checked += 1
    assert checked >= 0.7 * len(places)  # 0.85^2 of the rows do not come after an end, where NEXT_STEP has resets


@pytest.mark.parametrize(("dtype", "one"), [(torch.uint8, 255), (torch.int64, 7), (torch.float32, 0.5)])
def test_windows_keep_the_dtype(dtype, one):
    replay = ReplayBuffer(EnvSpec((2, 1, 1), dtype, 2), torch.empty(1, 0), 8, 1, 0.5, history=3)
    obs, no = torch.full((1, 2, 1, 1), one, dtype=dtype), torch.tensor([False])
    for _ in range(2):
        replay.add(Transition(obs, torch.tensor([0]), torch.zeros(1), no, no, obs, ~no), torch.empty(1, 0))
    sample = replay.gather(torch.tensor([1]))
    assert sample.obs.dtype == sample.next_obs.dtype == dtype
    assert sample.obs.tolist() == [[[0, 0, 0], [1, one, one], [1, one, one]]]
    assert sample.next_obs.tolist() == [[[1, one, one]] * 3]
