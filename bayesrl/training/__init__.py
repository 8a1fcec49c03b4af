"""The training loop and what it drives: rollouts, evaluation, checkpoints, logs."""
