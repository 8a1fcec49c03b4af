"""Targets written out by hand, and how a target network follows."""

import pytest
import torch

from bayesrl.rl.td import Periodic, Polyak, at, bellman, double_q, greedy, max_q

ONLINE = torch.tensor([[[1.0, 5.0, 2.0], [7.0, 0.0, 3.0]]])  # [n = 1, B = 2, A = 3]
TARGET = torch.tensor([[[10.0, 20.0, 30.0], [40.0, 60.0, 50.0]]])


def test_double_q_takes_the_targets_value_of_the_online_choice():
    assert double_q(ONLINE, TARGET).tolist() == [[20.0, 40.0]]


def test_max_q_takes_the_targets_own_best():
    assert max_q(ONLINE, TARGET).tolist() == [[30.0, 60.0]]


def test_masked_actions_are_never_chosen():
    mask = torch.tensor([[True, False, True], [False, False, True]])
    assert greedy(ONLINE, mask).tolist() == [[2, 2]]
    assert double_q(ONLINE, TARGET, mask).tolist() == [[30.0, 50.0]]
    assert max_q(ONLINE, TARGET, mask).tolist() == [[30.0, 50.0]]


def test_a_terminal_state_without_actions_still_has_a_finite_target():
    value = double_q(ONLINE, TARGET, torch.zeros(2, 3, dtype=torch.bool))
    assert bellman(torch.tensor([1.0, 2.0]), torch.zeros(2), value).tolist() == [[1.0, 2.0]]


def test_bellman_by_hand():
    y = bellman(torch.tensor([1.0, -1.0]), torch.tensor([0.5, 0.0]), torch.tensor([[4.0, 4.0], [8.0, 8.0]]))
    assert y.tolist() == [[3.0, -1.0], [5.0, -1.0]]
    assert at(ONLINE[0], torch.tensor([2, 0])).tolist() == [2.0, 7.0]


def test_polyak_after_k_steps_is_one_minus_a_power():
    target, online = torch.zeros(3), torch.ones(3)
    track = Polyak(0.1)
    for _ in range(5):
        track([target], [online])
    torch.testing.assert_close(target, torch.full((3,), 1 - 0.9**5))


def test_periodic_copies_at_every_third_update_only():
    target, track, seen = torch.zeros(()), Periodic(3), []
    for k in range(1, 8):
        track([target], [torch.tensor(float(k))])
        seen.append(target.item())
    assert seen == [0, 0, 3, 3, 3, 6, 6]


@pytest.mark.parametrize("make", [lambda: Polyak(0), lambda: Polyak(1.1), lambda: Periodic(0)])
def test_nonsense_is_refused(make):
    with pytest.raises(ValueError, match=r"got .*, wanted"):
        make()
