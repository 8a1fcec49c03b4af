"""Scalars to TensorBoard and `metrics.csv`: the one module that writes them.

Every tag is declared here with a line of explanation, which TensorBoard shows beside the chart.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from torch.utils.tensorboard import SummaryWriter

TAGS: dict[str, str] = {
    "rollout/ep_rew_mean": "Undiscounted return, mean of the last 100 training episodes; explores, so it trails eval/mean_reward.",
    "rollout/ep_len_mean": "Episode length in transitions, mean of the last 100 training episodes.",
    "rollout/episodes": "Training episodes finished so far.",
    "eval/mean_reward": "Undiscounted return, greedy on the posterior mean, mean over evaluation episodes.",
    "eval/mean_ep_length": "Length of the evaluation episodes in transitions, mean.",
    "train/loss": "Objective of the last update, per observation: nll + temperature-weighted kl.",
    "train/nll": "Negative log-likelihood of the temporal-difference targets, per observation and draw.",
    "train/kl": "KL term of the ELBO per observation, times the temperature.",
    "train/n_updates": "Updates so far.",
    "uncertainty/q_epistemic_std": "Standard deviation over posterior draws of Q at the mean's greedy action, averaged over recent states, in return units; shrinks with data.",
    "uncertainty/q_aleatoric_std": "Standard deviation of the realised discounted return around its predicted mean that is left after the epistemic part, learned from finished episodes, in return units.",
    "uncertainty/action_disagreement": "Share of posterior draws whose greedy action differs from the mean's, over recent states; 0 when the draws agree on what to do.",
    "uncertainty/start_value": "Value at the last episode's first state, mean over draws, in return units.",
    "uncertainty/start_value_p05": "5 % quantile over draws of the value at the last episode's first state (epistemic only).",
    "uncertainty/start_value_p95": "95 % quantile over draws of the value at the last episode's first state (epistemic only).",
    "uncertainty/posterior_kl": "KL of the weights' posterior from their prior, in nats; absent for posteriors without one.",
    "uncertainty/collapsed": "1 where the draws differ by less than a thousandth of the Q-values' size: the posterior has become a point and explores no more.",
    "calibration/return_coverage_90": "Share of the last 100 terminated episodes whose discounted return lay in the 90 % band predicted at their first state, before anything of them was stored; 0.9 is calibrated.",
    "calibration/episodes_scored": "Episodes the coverage has been computed from, so far.",
    "calibration/episodes_truncated": "Truncated episodes, which have no realised return and are left out, so far.",
    "time/fps": "Transitions per second since the last row.",
    "time/total_timesteps": "Transitions so far.",
    "time/env_share": "Share of the time spent stepping environments.",
    "time/act_share": "Share of the time spent choosing actions.",
    "time/learn_share": "Share of the time spent storing and updating.",
    "time/log_share": "Share of the time spent logging, evaluating and saving.",
}  # fmt: skip

LAYOUT = {
    "return": {
        "training and evaluation": ["Multiline", ["rollout/ep_rew_mean", "eval/mean_reward"]],
    },
    "uncertainty": {
        "value at the start, 5-95 % over draws": [
            "Margin",
            ["uncertainty/start_value", "uncertainty/start_value_p05", "uncertainty/start_value_p95"],
        ],
        "standard deviation of Q": ["Multiline", ["uncertainty/q_epistemic_std", "uncertainty/q_aleatoric_std"]],
        "disagreement of draws": ["Multiline", ["uncertainty/action_disagreement"]],
    },
    "calibration": {"coverage of the 90 % band": ["Multiline", ["calibration/return_coverage_90"]]},
    "posterior": {"ELBO terms": ["Multiline", ["train/nll", "train/kl"]]},
    "time": {"where it goes": ["Multiline", [f"time/{part}_share" for part in ("env", "act", "learn", "log")]]},
}


class Logger:
    """Writes rows of scalars.

    Arguments:
        run_dir: gets `metrics.csv` and TensorBoard's event files.
        since: transitions of the checkpoint that is resumed; what was written beyond is taken back.
    """

    def __init__(self, run_dir: Path, since: int | None = None) -> None:
        self.path = run_dir / "metrics.csv"
        self.writer = SummaryWriter(str(run_dir), purge_step=None if since is None else since + 1)
        self._described: set[str] = set()
        self.last_step = -1 if since is None else since
        if since is None or not self.path.exists():
            with self.path.open("w", newline="") as file:
                csv.writer(file).writerow(["step", *TAGS])
            self.writer.add_custom_scalars(LAYOUT)
        else:
            _truncate(self.path, since)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write one row: `step` in transitions, values by tag; those that are not finite are left out.

        Raises:
            KeyError: a tag without an explanation in TAGS.
        """
        if unknown := set(values) - set(TAGS):
            raise KeyError(f"got the tags {sorted(unknown)}, wanted ones declared in bayesrl.logger.TAGS: add a line there")
        self.last_step = step
        row = {tag: float(value) for tag, value in values.items() if math.isfinite(value)}
        for tag, value in row.items():
            self._add(tag, value, step)
        self.writer.flush()
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerow([step, *(repr(row[tag]) if tag in row else "" for tag in TAGS)])

    def _add(self, tag: str, value: float, step: int) -> None:
        summary = Summary.Value(tag=tag, simple_value=value)
        if tag not in self._described:
            plugin = SummaryMetadata.PluginData(plugin_name="scalars")
            summary.metadata.CopyFrom(SummaryMetadata(plugin_data=plugin, summary_description=TAGS[tag]))
            self._described.add(tag)
        self.writer._get_file_writer().add_summary(Summary(value=[summary]), step)

    def close(self) -> None:
        self.writer.close()


def _truncate(path: Path, step: int) -> None:
    """Drop the rows of a metrics file beyond `step`, and a last one that was cut short."""
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    kept = [row for row in rows if len(row) == len(header) and int(row[0]) <= step]
    part = path.with_suffix(".part")
    with part.open("w", newline="") as file:
        csv.writer(file).writerows([header, *kept])
    os.replace(part, path)
