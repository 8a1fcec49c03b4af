"""Running statistics against NumPy on all that was seen."""

import copy

import numpy as np
import pytest
import torch

from bayesrl.rl.normalization import Normalizer
from bayesrl.rl.observation_windows import window
from bayesrl.rl.types import EnvSpec, Transition


def step(obs, reward, done=None, valid=None):
    E = len(obs)
    no = torch.zeros(E, dtype=torch.bool)
    return Transition(
        obs,
        torch.zeros(E, dtype=torch.int64),
        reward,
        no if done is None else done,
        no,
        obs,
        ~no if valid is None else valid,
    )


def test_mean_and_variance_are_numpys_even_far_from_zero():
    normalizer = Normalizer(EnvSpec((2,), torch.float32, 2, 3), 0.9)
    torch.manual_seed(0)
    obs = 4096 + torch.randn(50, 3, 2)
    valid = torch.rand(50, 3) < 0.8
    for one, flag in zip(obs, valid, strict=True):
        normalizer.observe(step(one, torch.zeros(3), valid=flag))
    seen = obs[valid].double().numpy()
    np.testing.assert_allclose(normalizer.mean, seen.mean(0), rtol=1e-12)
    np.testing.assert_allclose(normalizer.square, seen.var(0), rtol=1e-9)
    scaled = normalizer.obs(obs[valid])
    np.testing.assert_allclose(scaled.std(0, correction=0), 1, atol=1e-3)
    assert normalizer.count == valid.sum()


def test_return_scale_by_hand():
    normalizer = Normalizer(EnvSpec((1,), torch.float32, 2), 0.5)
    yes = torch.tensor([True])
    for reward, done, valid in ((4.0, ~yes, yes), (2.0, yes, yes), (0.0, ~yes, ~yes), (6.0, ~yes, yes)):
        normalizer.observe(step(torch.zeros(1, 1), torch.tensor([reward]), done, valid))
    # Running sums 4, 2 + 4/2 = 4, a reset step that counts for nothing, 6.
    np.testing.assert_allclose(normalizer.scale, ((16 + 16 + 36) / 3) ** 0.5, rtol=1e-6)


def test_small_rewards_are_not_magnified():
    normalizer = Normalizer(EnvSpec((1,), torch.float32, 2), 0.5)
    normalizer.observe(step(torch.zeros(1, 1), torch.tensor([-0.01])))
    assert normalizer.scale == 1


@pytest.mark.parametrize("shape", [(4, 3, 2), (4, 3), (5,)])
def test_pixels_share_the_statistics_of_their_channel(shape):
    """Bytes without channels are all alike."""
    normalizer = Normalizer(EnvSpec(shape, torch.uint8, 2, 3), 0.9)
    torch.manual_seed(0)
    obs = torch.randint(256, (50, 3, *shape), dtype=torch.uint8) // (1 + torch.arange(shape[-1], dtype=torch.uint8))
    valid = torch.rand(50, 3) < 0.8
    for one, flag in zip(obs, valid, strict=True):
        normalizer.observe(step(one, torch.zeros(3), valid=flag))
    seen = obs[valid].double().numpy()
    axes = (0, 1, 2) if len(shape) == 3 else None
    np.testing.assert_allclose(normalizer.mean, seen.mean(axes), rtol=1e-12)
    np.testing.assert_allclose(normalizer.square, seen.var(axes), rtol=1e-9)
    scaled = normalizer.obs(obs[valid])
    assert scaled.dtype == torch.float32
    np.testing.assert_allclose(scaled.numpy().std(axes), 1, atol=1e-3)


def test_without_scaling_pixels_are_divided_and_numbers_left_alone():
    pixels, numbers = (
        Normalizer(EnvSpec((1, 1, 1), d, 2), 0.9, observations=False) for d in (torch.uint8, torch.float32)
    )
    for each, dtype in ((pixels, torch.uint8), (numbers, torch.float32)):
        each.observe(step(torch.full((1, 1, 1, 1), 99, dtype=dtype), torch.zeros(1)))
    assert pixels.obs(torch.full((1, 1, 1, 1), 255, dtype=torch.uint8)).item() == 1
    assert numbers.obs(torch.full((1, 1, 1, 1), 99.0)).item() == 99


def test_indices_are_left_alone():
    index = torch.tensor([[3]])
    assert Normalizer(EnvSpec((1,), torch.int64, 2, categories=5), 0.9).obs(index) is index


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_windows_are_their_observations_scaled_and_their_flags_left_alone(dtype):
    normalizer = Normalizer(EnvSpec((4, 3, 2), dtype, 2), 0.9)
    torch.manual_seed(0)
    obs = torch.randint(256, (50, 4, 3, 2)).to(dtype)
    for one in obs:
        normalizer.observe(step(one[None], torch.zeros(1)))
    seen = normalizer.obs(window(obs.view(10, 5, 4, 3, 2), torch.ones(10, 5, dtype=torch.bool)))
    assert (seen[..., 0] == 1).all()
    assert torch.equal(seen[..., 1:], normalizer.obs(obs).view(10, 5, 24))
    assert (normalizer.obs(torch.zeros(1, 5, 25, dtype=dtype))[..., 0] == 0).all()


def test_scaled_observations_are_clipped_at_ten():
    normalizer = Normalizer(EnvSpec((1,), torch.float32, 2), 0.9)
    assert normalizer.obs(torch.tensor([[-99.0], [2.0], [99.0]])).flatten().tolist() == [-10, 2, 10]


def test_what_a_captured_update_holds_stays_at_its_address_and_the_state_goes_round():
    torch.manual_seed(0)
    normalizer = Normalizer(EnvSpec((2,), torch.float32, 2), 0.9)
    held = {name: buffer.data_ptr() for name, buffer in normalizer.named_buffers()}
    for _ in range(5):
        normalizer.observe(step(torch.randn(1, 2), torch.randn(1)))
    assert held == {name: buffer.data_ptr() for name, buffer in normalizer.named_buffers()}
    other = Normalizer(EnvSpec((2,), torch.float32, 2), 0.9)
    other.load_state_dict(copy.deepcopy(normalizer.state_dict()))
    again = step(torch.randn(1, 2), torch.randn(1))
    for each in (normalizer, other):
        each.observe(again)
    assert all(torch.equal(a, b) for a, b in zip(normalizer.buffers(), other.buffers(), strict=True))
