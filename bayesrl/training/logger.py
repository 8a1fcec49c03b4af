"""Scalars to TensorBoard and `metrics.csv`, histograms and images to TensorBoard: the one module that writes them.

Every tag is declared here with a line of explanation, which TensorBoard shows beside the chart.
"""

from __future__ import annotations

import contextlib
import csv
import io
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL.Image import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.summary.writer.record_writer import RecordWriter
from torch import Tensor
from torch.utils.tensorboard.summary import custom_scalars, hparams, make_histogram

from bayesrl.metrics.bootstrap import Interval
from bayesrl.plotting.raster import png
from bayesrl.training.checkpoint import CheckpointError, replace

TAGS: dict[str, str] = {
    "rollout/ep_rew_mean": "Undiscounted return, mean of the last 100 training episodes; explores, so it trails eval/mean_reward.",
    "rollout/ep_len_mean": "Episode length in transitions, mean of the last 100 training episodes.",
    "rollout/episodes": "Training episodes finished so far.",
    "eval/mean_reward": "Undiscounted return, greedy on the posterior mean, mean over evaluation episodes.",
    "eval/mean_ep_length": "Length of the evaluation episodes in transitions, mean.",
    "train/loss": "Objective of the last update, per observation: nll + temperature-weighted kl.",
    "train/nll": "Negative log-likelihood of the temporal-difference targets, per observation and draw.",
    "train/kl": "KL term of the ELBO per observation, times the temperature.",
    "train/policy_value": "Mean value of the policies' own actions at what was last learned from, in return units, each by its own draw.",
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
    "calibration/return_ece": "Quantile calibration error: mean distance between 20 levels and the share of the last 100 returns below the quantile predicted for them; 0 is calibrated, .03 is chance.",
    "calibration/return_rmse": "Root mean squared error of the value predicted at the first state against the discounted return, over the last 100 terminated episodes, in return units.",
    "calibration/return_std": "The error that was predicted for the same episodes, epistemic and aleatoric together, in return units; equal to calibration/return_rmse where calibrated, below it where too sure.",
    "calibration/episodes_scored": "Episodes the coverage has been computed from, so far.",
    "calibration/episodes_truncated": "Truncated episodes, which have no realised return and are left out, so far.",
    "model/nll": "Negative log-likelihood of the last new transitions under the dynamics fitted before they were learned from, in nats a transition, in units of standardised targets.",
    "model/crps": "Continuous ranked probability score of the same predictions, mean over targets, in standard deviations of what has been seen; lower is better.",
    "model/coverage_90": "Share of changes and rewards of the last new transitions inside the 5-95 % band predicted for them; 0.9 is calibrated.",
    "model/ece": "Quantile calibration error of the same predictions; 0 is calibrated.",
    "model/epistemic_std": "How far worlds drawn from the posterior differ in the next step, in standard deviations of what has been seen; shrinks with data.",
    "model/aleatoric_std": "Noise that each world expects in the next step, in standard deviations of what has been seen.",
    "model/temperature": "Temperature of the posterior that is acted on: the one that predicted new episodes best; absent for posteriors without one.",
    "model/broken": "Candidate plans whose rollout was not finite and which were scored -inf, so far.",
    "ahead/rmse": "Error of the mean prediction 10 steps ahead in new episodes, actions given, in standard deviations of where they went.",
    "ahead/coverage_90": "Share of the observations 10 steps ahead inside the 5-95 % band of worlds; 0.9 is calibrated.",
    "ahead/return": "Sum of the 10 rewards at the end of the last episode, predicted before it was learned from, mean over worlds.",
    "ahead/return_p05": "5 % quantile over worlds, with their noise, of the same sum.",
    "ahead/return_p95": "95 % quantile over worlds, with their noise, of the same sum.",
    "ahead/return_happened": "What the same sum turned out to be.",
    "time/fps": "Transitions per second since the last row.",
    "time/total_timesteps": "Transitions so far.",
    "time/env_share": "Share of the time spent stepping environments.",
    "time/act_share": "Share of the time spent choosing actions.",
    "time/learn_share": "Share of the time spent storing and updating.",
    "time/evaluate_share": "Share of the time spent in evaluation episodes.",
    "time/log_share": "Share of the time spent logging and saving.",
}  # fmt: skip

# Of the whole run, written as it ends; `result.json` has them too.
FINAL: dict[str, str] = {
    "final/return": "Undiscounted return, greedy on the posterior mean, mean over the episodes played when training has ended.",
    "final/episodes_to_solve": "Training episodes after which the task counted as solved.",
    "final/hours": "Wall time of training, over all sessions.",
}  # fmt: skip

HISTOGRAMS: dict[str, str] = {
    "calibration/return_pit": "Where the last 100 returns lay in the distribution predicted for them as their episodes began (probability integral transform), in 20 bins: flat is calibrated, a heap in the middle too cautious, heaps at both ends too sure, a heap at 0 too optimistic.",
    "posterior/weight_mean": "Means of the network's weights over 20 posterior draws.",
    "posterior/weight_log10_std": "Decimal logarithm of the standard deviations of the network's weights over 20 posterior draws, of those that differ between draws; moves left as the posterior contracts.",
}  # fmt: skip

PROBABILITIES = ("calibration/return_pit",)  # histograms of numbers from 0 to 1, in 20 bins

IMAGES: dict[str, str] = {
    "uncertainty/q_along_episode": "Q of the actions taken in the first episode of the last evaluation, with its 5-95 % band over posterior draws, beside the discounted return that followed where the episode ended in the world; below, the standard deviation over draws.",
    "uncertainty/map": "Standard deviation of Q over posterior draws at the greedy action, in each cell of a grid world.",
    "model/steps_ahead": "The last steps of the newest episode, as worlds foresaw them under the actions taken, before they were learned from: median and 5-95 % band over worlds with their noise, beside what happened; the first numbers of the observation, and the reward.",
    "exploration/visits": "How often each cell of a grid world is in the replay memory.",
    "calibration/reliability": "Share of the last 100 predicted returns that fell below each predicted quantile: on the diagonal is calibrated, and inside the band for all that 100 returns can tell; above it returns are lower than predicted.",
}  # fmt: skip

# Of the configurations, compared in the HPARAMS tab.
COMPARED = (
    "final/return", "final/episodes_to_solve", "eval/mean_reward", "rollout/ep_rew_mean", "uncertainty/q_epistemic_std",
    "calibration/return_coverage_90", "calibration/return_ece", "final/hours",
)  # fmt: skip

OF_VALUES = ("uncertainty", "calibration", "posterior")  # sections that are empty where an agent has worlds alone
LAYOUT = {
    "return": {
        "return, training and evaluation": ["Multiline", ["rollout/ep_rew_mean", "eval/mean_reward"]],
        "length of episodes": ["Multiline", ["rollout/ep_len_mean", "eval/mean_ep_length"]],
    },
    "uncertainty": {
        "value at the start, 5-95 % over draws": [
            "Margin",
            ["uncertainty/start_value", "uncertainty/start_value_p05", "uncertainty/start_value_p95"],
        ],
        "standard deviation of Q": ["Multiline", ["uncertainty/q_epistemic_std", "uncertainty/q_aleatoric_std"]],
        "disagreement of draws": ["Multiline", ["uncertainty/action_disagreement"]],
    },
    "calibration": {
        "coverage of the 90 % band": ["Multiline", ["calibration/return_coverage_90"]],
        "error of the return predicted at the start": [
            "Multiline",
            ["calibration/return_rmse", "calibration/return_std"],
        ],
        "calibration error of the return's quantiles": ["Multiline", ["calibration/return_ece"]],
    },
    "posterior": {
        "KL from the prior, nats": ["Multiline", ["uncertainty/posterior_kl"]],
        "collapsed to a point": ["Multiline", ["uncertainty/collapsed"]],
    },
    "learning": {
        "loss": ["Multiline", ["train/loss"]],
        "ELBO terms": ["Multiline", ["train/nll", "train/kl"]],
    },
    "dynamics": {
        "return of 10 steps: predicted, 5-95 % over worlds": [
            "Margin",
            ["ahead/return", "ahead/return_p05", "ahead/return_p95"],
        ],
        "return of 10 steps: what happened, and the band": [
            "Multiline",
            ["ahead/return_happened", "ahead/return_p05", "ahead/return_p95"],
        ],
        "coverage of the 90 % band, 1 and 10 steps ahead": ["Multiline", ["model/coverage_90", "ahead/coverage_90"]],
        "next step: unsure, and noisy": ["Multiline", ["model/epistemic_std", "model/aleatoric_std"]],
        "next step: negative log-likelihood, nats": ["Multiline", ["model/nll"]],
        "10 steps ahead: error": ["Multiline", ["ahead/rmse"]],
    },
    "time": {
        "where it goes": ["Multiline", [f"time/{part}_share" for part in ("env", "act", "learn", "evaluate", "log")]],
        "transitions per second": ["Multiline", ["time/fps"]],
    },
}


def layout(values: bool, worlds: bool) -> dict[str, dict]:
    """The sections that an agent fills which has values, and which has worlds."""
    empty = (() if values else OF_VALUES) + (() if worlds else ("dynamics",))
    return {section: charts for section, charts in LAYOUT.items() if section not in empty}


class Logger:
    """Writes rows of scalars, each on disk when `log` returns.

    Arguments:
        run_dir: gets `metrics.csv` and TensorBoard's event files, one a session.
        since: transitions of the checkpoint that is resumed; what was written beyond is taken back.
        layout: charts by title, of each section, as TensorBoard's custom scalars show them.
    """

    def __init__(self, run_dir: Path, since: int | None = None, layout: Mapping[str, dict] = LAYOUT) -> None:
        self.table, self.events = run_dir / "metrics.csv", run_dir / f"events.out.tfevents.{time.time():.6f}"
        self._described: set[str] = set()
        first = [Event(file_version="brain.Event:2")]
        if since is not None:
            first.append(Event(step=since + 1, session_log=SessionLog(status=SessionLog.START)))
        if not self.table.exists():
            first.append(Event(summary=custom_scalars(dict(layout))))
        self._tags, rows = [*TAGS], [] if since is None else _rows(self.table, since)
        self.last_step = int(rows[-1]["step"]) if rows else -1  # of a row
        self._rewrite(rows)
        self._file = self.events.open("ab")
        self._write(first)

    def begin(self, settings: Mapping[str, bool | float | str]) -> None:
        """Say what the run is made of, for TensorBoard to compare runs by."""
        experiment, session, _ = hparams(dict(settings), dict.fromkeys(COMPARED, 0.0))
        self._write([Event(summary=experiment), Event(summary=session)])

    def conclude(self, step: int, values: Mapping[str, float]) -> None:
        """Say how the run ended, by tags of FINAL."""
        _known(values, FINAL, "FINAL")
        _, _, end = hparams({}, {})
        drawn = [self._scalar(tag, value, FINAL) for tag, value in values.items()]
        self._write([Event(step=step, summary=Summary(value=drawn)), Event(summary=end)])

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write one row: `step` in transitions, values by tag; those that are not finite are left out.

        Tags without a line in TAGS, such as what a user's own agent tells, get a column of their own.

        Raises:
            CheckpointError: the disk is full.
        """
        own = {tag: f"Told by the agent: {tag}." for tag in values if tag not in TAGS}
        self.last_step = step
        if not own.keys() <= set(self._tags):
            self._rewrite(_rows(self.table, step), own)
        row = {tag: float(value) for tag, value in values.items() if math.isfinite(value)}
        self._write(
            [Event(step=step, summary=Summary(value=[self._scalar(*item, TAGS | own) for item in row.items()]))]
        )
        with self._told(), self.table.open("a", newline="") as file:
            csv.writer(file).writerow([step, *(repr(row[tag]) if tag in row else "" for tag in self._tags)])

    def draw(self, step: int, samples: Mapping[str, Tensor], pictures: Mapping[str, Image] | None = None) -> None:
        """Histograms of numbers [k] by tag, left out where k = 0, and pictures; in TensorBoard alone.

        Raises:
            KeyError: a tag without an explanation in HISTOGRAMS or IMAGES.
            CheckpointError: the disk is full.
        """
        pictures = pictures or {}
        _known(samples, HISTOGRAMS, "HISTOGRAMS")
        _known(pictures, IMAGES, "IMAGES")
        drawn = [self._histogram(tag, sample) for tag, sample in samples.items() if len(sample)]
        drawn += [self._image(tag, picture) for tag, picture in pictures.items()]
        self._write([Event(step=step, summary=Summary(value=drawn))])

    def close(self) -> None:
        """Let go of the event file."""
        with contextlib.suppress(OSError):  # of a full disk, which was told before
            self._file.close()

    def _rewrite(self, rows: list[dict[str, str]], more: Iterable[str] = ()) -> None:
        """The table anew, with columns for all that `rows` hold and for `more`."""
        told = dict.fromkeys((*(tag for row in rows for tag in row), *more))
        self._tags += [tag for tag in told if tag not in ("step", *self._tags)]
        text = io.StringIO(newline="")
        csv.writer(text).writerows(
            [["step", *self._tags], *([row["step"], *(row.get(tag, "") for tag in self._tags)] for row in rows)]
        )
        replace(self.table, text.getvalue().encode())

    def _scalar(self, tag: str, value: float, explained: dict[str, str]) -> Summary.Value:
        return Summary.Value(tag=tag, simple_value=value, metadata=self._metadata(tag, "scalars", explained))

    def _histogram(self, tag: str, sample: Tensor) -> Summary.Value:
        bins = np.linspace(0, 1, 21) if tag in PROBABILITIES else 30
        histogram = make_histogram(sample.double().cpu().numpy(), bins)
        return Summary.Value(tag=tag, histo=histogram, metadata=self._metadata(tag, "histograms", HISTOGRAMS))

    def _image(self, tag: str, picture: Image) -> Summary.Value:
        image = Summary.Image(
            height=picture.height, width=picture.width, colorspace=3, encoded_image_string=png(picture)
        )
        return Summary.Value(tag=tag, image=image, metadata=self._metadata(tag, "images", IMAGES))

    def _metadata(self, tag: str, plugin: str, explained: dict[str, str]) -> SummaryMetadata | None:
        """The explanation, which a tag's first value carries."""
        if tag in self._described:
            return None
        self._described.add(tag)
        data = SummaryMetadata.PluginData(plugin_name=plugin)
        return SummaryMetadata(plugin_data=data, summary_description=explained[tag])

    def _write(self, events: list[Event]) -> None:
        with self._told():
            for event in events:
                event.wall_time = time.time()
                RecordWriter(self._file).write(event.SerializeToString())
            self._file.flush()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CheckpointError(
                f"got '{error.strerror}' writing the log in {self.table.parent}, wanted it written: free some space, and "
                f"go on with resume={self.table.parent}"
            ) from error


def _known(values: Mapping[str, object], explained: dict[str, str], where: str) -> None:
    if unknown := set(values) - set(explained):
        raise KeyError(
            f"got the tags {sorted(unknown)}, wanted ones with a line in bayesrl.training.logger.{where}: add it there"
        )


def _rows(path: Path, step: int) -> list[dict[str, str]]:
    """The rows of a metrics file up to `step` by tag, without what was cut short."""
    if not path.exists():
        return []
    with path.open(newline="", errors="replace") as file:
        table = [row for row in csv.DictReader(file) if str(row.get("step")).isdigit() and None not in row.values()]
    return [row for row in table if int(row["step"]) <= step]


def write_bands(place: Path, bands: Mapping[str, tuple[np.ndarray, Interval]]) -> None:
    """A TensorBoard run of curves with bands: each tag, beside tag_low and tag_high, as a Margin chart of its own.

    Arguments:
        place: the run's directory.
        bands: by tag transitions [K] and numbers [K] with their intervals.
    """
    place.mkdir(parents=True, exist_ok=True)
    edges = {tag: (tag, f"{tag}_low", f"{tag}_high") for tag in bands}
    layout = {"over seeds: IQM with its 95 % interval": {tag: ["Margin", [*edges[tag]]] for tag in bands}}
    events = [Event(file_version="brain.Event:2"), Event(summary=custom_scalars(layout))]
    for tag, (steps, interval) in bands.items():
        for row, step in enumerate(steps):
            values = [Summary.Value(tag=t, simple_value=v[row]) for t, v in zip(edges[tag], interval, strict=True)]
            events.append(Event(step=int(step), summary=Summary(value=values)))
    with (place / f"events.out.tfevents.{time.time():.6f}").open("wb") as file:
        for event in events:
            event.wall_time = time.time()
            RecordWriter(file).write(event.SerializeToString())
