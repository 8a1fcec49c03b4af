"""A run of a second from Python: its words and settings, those of `runs.TINY`."""

from typing import Any

WORDS: dict[str, Any] = {"capture": False, "replay_ratio": 0.25, "steps": 400, "seed": 5}
SETTINGS: dict[str, Any] = {
    "network.hidden": [8], "agent.learning_starts": 64, "agent.batch_size": 16, "log.every": 100,
    "checkpoint.every": 200, "eval.every": 200, "eval.episodes": 1, "eval.final_episodes": 1,
}  # fmt: skip
