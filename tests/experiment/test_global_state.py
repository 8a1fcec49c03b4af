"""Validation of distributions stays as the caller set it: after building, after loading and during training."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
import pyro
import pytest
import torch
from gymnasium.spaces import Box, Discrete

import bayesrl
from bayesrl.posteriors.svi import elbo
from support.runs import train


def validation() -> tuple[bool, bool, bool, bool]:
    return (
        torch.distributions.Distribution._validate_args,
        pyro.distributions.is_validation_enabled(),
        pyro.poutine.is_validation_enabled(),
        pyro.settings.get("module_local_params"),
    )


class Validating(gym.Env):
    """An environment whose code relies on the validation of distributions."""

    refused = 0

    def __init__(self) -> None:
        self.observation_space, self.action_space = Box(-1, 1, (1,), np.float32), Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: int):
        self.t += 1
        with pytest.raises(ValueError):
            torch.distributions.Normal(0.0, -1.0)
        Validating.refused += 1
        return np.zeros(1, np.float32), 0.0, self.t == 10, False, {}


def test_validation_is_on_during_training_and_after_loading(tmp_path: Path) -> None:
    before = validation()
    run = tmp_path / "run"
    train(f"env.id={__name__}:Validating", "steps=100", f"run_dir={run}", "agent.learning_starts=16")
    assert Validating.refused >= 100 and validation() == before
    policy = bayesrl.load(run)
    policy(np.zeros(1, np.float32))
    assert validation() == before
    with pytest.raises(ValueError):
        torch.distributions.Normal(0.0, -1.0)


def test_validation_that_is_off_stays_off(tmp_path: Path) -> None:
    with pyro.validation_enabled(False):
        run = tmp_path / "run"
        train("steps=40", f"run_dir={run}", "posterior=sgld")
        assert not any(validation())


def test_the_evidence_lower_bound_leaves_validation_on() -> None:
    """Pyro's handlers take a scale of 0 inside of it, while distributions are validated, in other threads too."""

    def model() -> None:
        with pyro.poutine.scale(scale=torch.zeros(())):
            pyro.sample("y", pyro.distributions.Normal(0.0, 1.0), obs=torch.ones(()))
        with pytest.raises(ValueError):
            torch.distributions.Normal(0.0, -1.0)

    before = validation()
    assert elbo(model, lambda: None)[0] == 0
    assert validation() == before
