"""Scalars to TensorBoard and `metrics.csv`, histograms and images to TensorBoard: the one module that writes them.

Every tag is declared in `bayesrl.training.tags` with a line of explanation, which TensorBoard shows beside the chart.
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
from bayesrl.training.tags import COMPARED, FINAL, HISTOGRAMS, IMAGES, LAYOUT, PROBABILITIES, TAGS


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
        own = {tag: f"Reported by the agent: {tag}." for tag in values if tag not in TAGS}
        self.last_step = step
        if not own.keys() <= set(self._tags):
            self._rewrite(_rows(self.table, step), own)
        row = {tag: float(value) for tag, value in values.items() if math.isfinite(value)}
        self._write(
            [Event(step=step, summary=Summary(value=[self._scalar(*item, TAGS | own) for item in row.items()]))]
        )
        with self._reporting(), self.table.open("a", newline="") as file:
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
        with contextlib.suppress(OSError):  # of a full disk, which has been reported
            self._file.close()

    def _rewrite(self, rows: list[dict[str, str]], more: Iterable[str] = ()) -> None:
        """Write the table anew, with columns for all tags of `rows` and for `more`."""
        tags = dict.fromkeys((*(tag for row in rows for tag in row), *more))
        self._tags += [tag for tag in tags if tag not in ("step", *self._tags)]
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
        """Return the explanation of a tag, which its first value carries."""
        if tag in self._described:
            return None
        self._described.add(tag)
        data = SummaryMetadata.PluginData(plugin_name=plugin)
        return SummaryMetadata(plugin_data=data, summary_description=explained[tag])

    def _write(self, events: list[Event]) -> None:
        with self._reporting():
            for event in events:
                event.wall_time = time.time()
                RecordWriter(self._file).write(event.SerializeToString())
            self._file.flush()

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise CheckpointError(
                f"got '{error.strerror}' writing the log in {self.table.parent}, wanted it written: free some space, "
                f"and go on with resume={self.table.parent}"
            ) from error


def _known(values: Mapping[str, object], explained: dict[str, str], where: str) -> None:
    if unknown := set(values) - set(explained):
        raise KeyError(
            f"got the tags {sorted(unknown)}, wanted ones with a line in bayesrl.training.tags.{where}: add it there"
        )


def _rows(path: Path, step: int) -> list[dict[str, str]]:
    """Return the rows of a metrics file up to `step`, by tag; rows that were cut short are left out."""
    if not path.exists():
        return []
    with path.open(newline="", errors="replace") as file:
        table = [row for row in csv.DictReader(file) if str(row.get("step")).isdigit() and None not in row.values()]
    return [row for row in table if int(row["step"]) <= step]


def write_bands(place: Path, bands: Mapping[str, tuple[np.ndarray, Interval]]) -> None:
    """Write a TensorBoard run of curves with bands: each tag, beside tag_low and tag_high, in a Margin chart.

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
