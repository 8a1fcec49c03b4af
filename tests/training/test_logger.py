"""TensorBoard and metrics.csv say the same, explain every tag, and go on after a resumption without a double."""

import csv
import io
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2

from bayesrl.train import main
from bayesrl.training.logger import Logger
from bayesrl.training.tags import COMPARED, FINAL, HISTOGRAMS, IMAGES, LAYOUT, TAGS
from support.runs import TINY, resume, train


def events(run: Path) -> EventAccumulator:
    return EventAccumulator(str(run), size_guidance={"scalars": 0, "tensors": 0, "histograms": 0}).Reload()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Killed at 350 transitions in effect: rows beyond the checkpoint at 300, then resumed."""
    run = tmp_path_factory.mktemp("logger") / "run"
    train("steps=300", f"run_dir={run}", "log.every=50")
    logger = Logger(run, 300)
    for step in (310, 350):
        logger.log(step, {"train/loss": -1.0, "rollout/episodes": 1e6})
    logger.close()
    logger.events.write_bytes(logger.events.read_bytes()[:-5])  # cut short
    resume(run, "steps=500")
    return run


def rows(run: Path) -> list[dict]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_no_step_is_doubled(run: Path) -> None:
    board = events(run)
    for tag in board.Tags()["scalars"]:
        steps = [event.step for event in board.Scalars(tag)]
        assert steps == sorted(set(steps)), tag
    assert [event.step for event in board.Scalars("train/n_updates")] == list(range(50, 501, 50))
    assert [int(row["step"]) for row in rows(run)] == list(range(50, 501, 50))


def test_metrics_agree_with_tensorboard(run: Path) -> None:
    board, table = events(run), rows(run)
    assert list(table[0]) == ["step", *TAGS]  # nothing of ours lacks a line of explanation
    for tag in TAGS:
        told = {int(row["step"]): float(row[tag]) for row in table if row[tag]}
        drawn = {event.step: event.value for event in board.Scalars(tag)} if tag in board.Tags()["scalars"] else {}
        assert drawn == pytest.approx(told, rel=1e-6), tag


def test_the_promised_tags_are_there(run: Path) -> None:
    assert set(events(run).Tags()["scalars"]) >= {
        "rollout/ep_rew_mean", "rollout/ep_len_mean", "train/loss", "eval/mean_reward", "eval/mean_ep_length",
        "time/fps",
        "uncertainty/q_epistemic_std", "uncertainty/q_aleatoric_std", "uncertainty/action_disagreement",
        "uncertainty/start_value", "uncertainty/posterior_kl", "calibration/return_coverage_90",
    }  # fmt: skip


def test_every_tag_is_explained_where_it_is_drawn(run: Path) -> None:
    board = events(run)
    for tag in board.Tags()["scalars"]:
        assert board.SummaryMetadata(tag).summary_description == (TAGS | FINAL)[tag]
    for text in (TAGS | FINAL | HISTOGRAMS | IMAGES).values():
        assert text.endswith(".") and len(text) > 12


def laid_out(run: Path) -> layout_pb2.Layout:
    """The charts of a run's custom scalars."""
    (event,) = events(run).Tensors("custom_scalars__config__")
    return layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])


def test_the_band_is_a_margin_chart(run: Path) -> None:
    charts = {chart.title: chart for category in laid_out(run).category for chart in category.chart}
    (series,) = charts["value at the start, 5-95 % over draws"].margin.series
    assert (series.value, series.lower, series.upper) == (
        "uncertainty/start_value", "uncertainty/start_value_p05", "uncertainty/start_value_p95",
    )  # fmt: skip
    named = {tag for charts in LAYOUT.values() for _, tags in charts.values() for tag in tags}
    assert named <= set(TAGS)


@pytest.mark.parametrize(
    ("words", "empty"),
    [
        ([], {"dynamics"}),
        (["imagination=worlds"], set()),
        (["agent=psrl", "env=continuous_cartpole"], {"uncertainty", "calibration", "posterior"}),
    ],
)
def test_sections_that_would_stay_empty_are_left_out(words: list[str], empty: set[str], tmp_path: Path) -> None:
    common = [
        "network.hidden=[8]",
        "agent.learning_starts=64",
        "eval.every=0",
        "eval.final_episodes=1",
        "capture=false",
    ]
    assert main([*common, *words, "steps=30", f"run_dir={tmp_path / 'run'}"]) == 0
    assert {category.title for category in laid_out(tmp_path / "run").category} == {*LAYOUT} - empty


def test_what_an_agent_tells_beside_the_usual_is_written_and_kept(tmp_path: Path) -> None:
    """A column of its own from its first row on, also of the rows before and after a resumption."""
    logger = Logger(tmp_path)
    logger.log(1, {"train/loss": 1.0})
    logger.log(2, {"train/loss": 2.0, "train/banana": 20.0})
    logger.close()
    logger = Logger(tmp_path, 2)
    logger.log(3, {"train/banana": 30.0, "my/pear": 3.0})
    logger.close()
    found = [(row["step"], row["train/loss"], row["train/banana"], row["my/pear"]) for row in rows(tmp_path)]
    assert found == [("1", "1.0", "", ""), ("2", "2.0", "20.0", ""), ("3", "", "30.0", "3.0")]
    board = EventAccumulator(str(tmp_path)).Reload()
    assert board.SummaryMetadata("train/banana").summary_description == "Reported by the agent: train/banana."


def test_numbers_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    logger = Logger(tmp_path)
    logger.log(2, {"train/loss": float("nan"), "train/nll": 0.1})
    logger.close()
    assert [(row["train/loss"], row["train/nll"]) for row in rows(tmp_path)] == [("", "0.1")]


@pytest.mark.parametrize("content", ["", "step,train/loss\n", "step\n100\nrubbish\n"])
def test_a_broken_metrics_file_is_written_on(content: str, tmp_path: Path) -> None:
    train("steps=100", f"run_dir={tmp_path / 'run'}", *TINY)
    (tmp_path / "run" / "metrics.csv").write_text(content)
    resume(tmp_path / "run", "steps=200")
    assert rows(tmp_path / "run")[-1]["step"] == "200"


def test_a_histogram_holds_its_numbers(tmp_path: Path) -> None:
    """Three numbers in two of twenty bins, explained; none is not drawn."""
    tag = "calibration/return_pit"
    logger = Logger(tmp_path)
    logger.draw(10, {tag: torch.tensor([0.12, 0.13, 0.97])})
    logger.draw(20, {tag: torch.empty(0)})
    logger.close()
    board = events(tmp_path)
    (drawn,) = board.Histograms(tag)
    bins = dict(zip(drawn.histogram_value.bucket_limit, drawn.histogram_value.bucket, strict=True))
    assert drawn.step == 10 and drawn.histogram_value.num == 3
    assert {round(limit, 2): count for limit, count in bins.items() if count} == {0.15: 2, 1.0: 1}
    assert HISTOGRAMS[tag] in board.SummaryMetadata(tag).summary_description
    with pytest.raises(KeyError, match="HISTOGRAMS"):
        logger.draw(30, {"unknown": torch.ones(1)})


def test_pictures_go_round(tmp_path: Path) -> None:
    """Pixel for pixel, of few colors and of more than a palette holds."""
    tag = "uncertainty/map"
    few, many = Image.new("RGB", (3, 2), "#4477aa"), Image.new("RGB", (20, 15))
    few.putpixel((2, 1), (1, 2, 3))
    many.putdata([(i % 256, i // 2, 7 * i % 256) for i in range(300)])
    logger = Logger(tmp_path)
    logger.draw(10, {}, {tag: few})
    logger.draw(20, {}, {tag: many})
    with pytest.raises(KeyError, match="IMAGES"):
        logger.draw(30, {}, {"unknown": Image.new("RGB", (1, 1))})
    logger.close()
    board = events(tmp_path)
    for drawn, step, picture in zip(board.Images(tag), (10, 20), (few, many), strict=True):
        seen = Image.open(io.BytesIO(drawn.encoded_image_string)).convert("RGB")
        assert drawn.step == step and seen.size == picture.size and seen.tobytes() == picture.tobytes()
    assert board.SummaryMetadata(tag).summary_description == IMAGES[tag]


def test_runs_are_compared_by_settings_and_final_metrics(run: Path) -> None:
    board = events(run)
    plugin = board.PluginTagToContent("hparams")
    session = plugin_data_pb2.HParamsPluginData.FromString(plugin["_hparams_/session_start_info"]).session_start_info
    settings = session.hparams
    assert settings["posterior"].string_value == "Hypermodel" and settings["posterior.draws"].number_value == 20
    assert settings["capture"].bool_value is False and "run_dir" not in settings
    experiment = plugin_data_pb2.HParamsPluginData.FromString(plugin["_hparams_/experiment"]).experiment
    assert [metric.name.tag for metric in experiment.metric_infos] == [*COMPARED]
    assert set(COMPARED) <= {*TAGS, *FINAL}
    ends = board.Scalars("final/return")
    assert [end.step for end in ends] == [300, 500]
    assert ends[-1].value == pytest.approx(json.loads((run / "result.json").read_text())["eval_return_mean"])
    assert board.SummaryMetadata("final/return").summary_description == FINAL["final/return"]


def test_a_run_is_drawn(tmp_path: Path) -> None:
    """Maps, the band along an episode, reliability and weights of a small DeepSea, at the rate asked for."""
    run = tmp_path / "run"
    train("env=deep_sea", "env.kwargs.size=4", "steps=300", "log.draw=100", f"run_dir={run}")
    board = events(run)
    without_worlds = set(IMAGES) - {"model/steps_ahead"}
    assert set(board.Tags()["images"]) == without_worlds
    for tag in without_worlds:
        assert [drawn.step for drawn in board.Images(tag)] == ([100, 200, 300] if "along" not in tag else [200, 300])
    mean = board.Histograms("posterior/weight_mean")
    assert [drawn.step for drawn in mean] == [100, 200, 300] and mean[0].histogram_value.num > 100
