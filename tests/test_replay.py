"""Windows by hand: gamma = 1/2 and rewards 1, 2, 4, ... so that every sum is exact."""

import pytest
import torch

from bayesrl.agent import EnvSpec, Transition
from bayesrl.replay import Replay


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


def filled(rows, capacity=8, n_step=3, E=1, tags=None, **spec):
    replay = Replay(EnvSpec((1,), torch.float32, 3, E, **spec), torch.empty(1, 0), capacity, n_step, 0.5)
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
    replay = Replay(EnvSpec((1,), torch.float32, 3), tags, 4, 1, 0.5)
    replay.add(row(0), tags)
    got = replay.gather(torch.tensor([0])).tags
    assert torch.equal(got, tags) and got.dtype == tags.dtype


def test_masks_and_bytes_are_kept():
    replay = Replay(EnvSpec((2, 2, 1), torch.uint8, 2, masked=True), torch.empty(1, 0), 4, 1, 0.5)
    obs = torch.arange(252, 256, dtype=torch.uint8).view(1, 2, 2, 1)
    replay.add(row(0, mask=torch.tensor([[True, False]]))._replace(obs=obs, next_obs=obs), torch.empty(1, 0))
    sample = replay.gather(torch.tensor([0]))
    assert torch.equal(sample.obs, obs) and sample.next_obs.dtype == torch.uint8
    assert sample.next_mask.tolist() == [[True, False]]


def test_rows_come_back_where_they_were():
    replay = filled([row(t, valid=t != 4) for t in range(7)], capacity=4)
    other = filled([], capacity=4)
    other.restore(replay.rows_since(0), replay.rows)
    for name, column in replay.columns.items():
        assert torch.equal(column, other.columns[name])
    assert (other.rows, other.size) == (7, 4)
    assert replay.rows_since(5)["reward"].flatten().tolist() == [32, 64]


def test_too_much_memory_is_told_with_a_remedy(monkeypatch):
    monkeypatch.setattr("bayesrl.replay.free_memory", lambda device: 2**20)
    with pytest.raises(
        MemoryError, match=r"got a replay of 1,000,000 transitions .* wanted .* free on cpu: lower agent.capacity to"
    ):
        filled([], capacity=1_000_000)


@pytest.mark.parametrize("kwargs", [{"capacity": 3}, {"n_step": 0}])
def test_nonsense_is_refused(kwargs):
    with pytest.raises(ValueError, match=r"got .*, wanted"):
        filled([], **kwargs)
