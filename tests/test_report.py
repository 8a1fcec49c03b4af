"""From run directories to a page: numbers by hand, a page that needs nothing, and what is left out."""

import json
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from benchmarks.report_scale import make
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2

from bayesrl.experiment.config import ConfigError
from bayesrl.metrics.bootstrap import Interval
from bayesrl.plotting.charts import Line, against, lines, profiles, strips
from bayesrl.report import collect, common_directory, compare, main
from bayesrl.reporting.comparison import aligned
from bayesrl.reporting.results import RunRecord

TAG = "eval/mean_reward"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sweep")
    for name in ("hypermodel", "point"):
        for seed in range(5):
            make(root / f"posterior={name},seed={seed}", name, seed, 12)
    return root


@pytest.fixture
def sweep(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "sweep"))


def scores(root: Path, name: str) -> list[float]:
    return [json.loads(path.read_text())["eval_return_mean"] for path in root.glob(f"posterior={name},*/result.json")]


def test_the_table_by_hand(sweep: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([str(sweep)]) == 0
    told = capsys.readouterr().out
    for name in ("hypermodel", "point"):
        x = np.sort(scores(sweep, name))
        row = next(line for line in told.splitlines() if line.startswith(name))
        assert re.findall(r"(\S+) \[", row) == [f"{v:.4g}" for v in (x[1:4].mean(), x[2], x.mean())]
        assert row.split()[1] == "5"
    above = np.mean([a > b for a in scores(sweep, "hypermodel") for b in scores(sweep, "point")])
    assert f"P(hypermodel beats point) = {above:.2f} [" in told
    assert json.loads((sweep / "report" / "report.json").read_text())["Runs"] == "10: 5 in each group, seeds 0 to 4"


def test_the_page_needs_nothing_and_every_figure_is_xml(sweep: Path) -> None:
    assert main([str(sweep), f"out={sweep / 'there'}"]) == 0
    page = (sweep / "there" / "index.html").read_text()
    assert not re.search(r"<(script|link|img|iframe)|src=|@import|url\(", page)
    assert set(re.findall(r"https?://[^\s\"'<]*", page)) == {"http://www.w3.org/2000/svg"}
    assert page.startswith("<!doctype html>") and "hypermodel and point on MountainCar-v0" in page
    assert not re.search(r"#[0-9a-f]{6}", page.split("</style>")[1])  # every color follows light and dark
    figures = sorted((sweep / "there").glob("*.svg"))
    assert [path.stem for path in figures] == [
        "calibration", "coverage", "curves", "error", "profile", "scores", "uncertainty",
    ]  # fmt: skip
    for path in figures:
        ElementTree.parse(path)
        assert not re.search(r"\b(nan|inf)\b", path.read_text())


def test_the_tensorboard_runs_hold_the_bands(sweep: Path) -> None:
    assert main([str(sweep)]) == 0
    events = EventAccumulator(str(sweep / "report" / "tensorboard" / "hypermodel")).Reload()
    tags = events.Tags()["scalars"]
    assert {TAG, f"{TAG}_low", f"{TAG}_high"} <= set(tags) and len(tags) % 3 == 0
    low, mid, high = (events.Scalars(tag) for tag in (f"{TAG}_low", TAG, f"{TAG}_high"))
    assert [event.step for event in mid] == [100 * (i + 1) for i in range(12)]
    assert all(a.value <= b.value <= c.value for a, b, c in zip(low, mid, high, strict=True))
    layout = layout_pb2.Layout.FromString(events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    (series,) = next(c.margin.series for c in layout.category[0].chart if c.title == TAG)
    assert (series.value, series.lower, series.upper) == (TAG, f"{TAG}_low", f"{TAG}_high")


def test_what_is_left_out_is_named_on_the_console_and_on_the_page(sweep: Path, capsys) -> None:
    (sweep / "posterior=point,seed=0" / "result.json").unlink()
    shutil.copytree(sweep / "posterior=point,seed=1", sweep / "again")
    assert main([str(sweep), "nowhere<b>"]) == 0
    told = capsys.readouterr().out
    page = (sweep / "report" / "index.html").read_text()
    for path, reason in (
        (sweep / "posterior=point,seed=0", "it stopped at 1,200 of 1,200 transitions"),
        (sweep / "posterior=point,seed=1", "it has the configuration and the seed of"),
        ("nowhere<b>", "there is no such directory"),
    ):
        assert f"left out: {path}: {reason}" in told
        assert str(path).replace("<b>", "&lt;b&gt;") in page and reason in page
    assert "9: 4 to 5 in each group, seeds 0 to 4" in page and "<b>" not in page


def test_another_metric(sweep: Path, capsys) -> None:
    tag = "uncertainty/q_epistemic_std"
    assert main([str(sweep), f"metric={tag}"]) == 0
    told = capsys.readouterr().out
    assert told.count(f"left out: {sweep}") == told.count(f"its metrics.csv has no {tag}") == 5  # point knows none
    runs, _ = collect([sweep], tag)
    last = np.sort([run.curve(tag)[1][-1] for run in runs])
    assert f"{last[2]:.4g} [" in told


@pytest.mark.parametrize("words", [["nowhere"], ["out=x"], ["{sweep}", "metric=no/such"], ["{sweep}", "out=/proc/x"]])
def test_bad_input_is_one_sentence(words: list[str], sweep: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(sweep)
    assert main([word.format(sweep=sweep) for word in words]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: got ") and "wanted" in told and told.count("\n") == 1


def test_several_environments_are_compared_on_normalised_scores(sweep: Path) -> None:
    for path in list(sweep.iterdir()):
        other = Path(shutil.copytree(path, sweep / f"other {path.name}"))
        text = (other / "config.yaml").read_text()
        (other / "config.yaml").write_text(text.replace("MountainCar-v0", "Acrobot-v1"))
        result = json.loads((other / "result.json").read_text())
        (other / "result.json").write_text(json.dumps(result | {"eval_return_mean": -result["eval_return_mean"]}))
    together, *each = compare(collect([sweep], TAG)[0], TAG)
    assert sorted(comparison.title for comparison in each) == ["Acrobot-v1", "MountainCar-v0"]
    both = {group.name: group for group in together.groups}
    assert {tuple(group.tasks) for group in both.values()} == {(5, 5)}
    # Mirrored scores: each group is as far from the best in one as from the worst in the other, and none is better.
    assert np.concatenate([g.scores for g in both.values()]).min() == 0
    assert np.concatenate([g.scores for g in both.values()]).max() == 1
    assert together.improvement(both["hypermodel"], both["point"]).value == pytest.approx(0.5)
    assert both["hypermodel"].scores.mean() == pytest.approx(0.5)
    assert main([str(sweep)]) == 0
    assert "2_environments_together-profile.svg" in {path.name for path in (sweep / "report").iterdir()}


def test_groups_are_ranked_by_episodes_where_a_run_can_be_solved(sweep: Path, capsys) -> None:
    """`point` returns less and solves sooner: in 4 of 5 runs before any other, in the fifth never, as one other."""
    solved = {"point": [10, 20, 30, 40, None], "hypermodel": [50, 60, 70, 80, None]}
    for name, episodes in solved.items():
        for seed, count in enumerate(episodes):
            path = sweep / f"posterior={name},seed={seed}" / "result.json"
            result = json.loads(path.read_text())
            path.write_text(json.dumps(result | {"episodes_to_solve": count}))
    (only,) = compare(collect([sweep], TAG)[0], TAG)
    assert [group.name for group in only.groups] == ["point", "hypermodel"]
    assert only.groups[0].iqm().value < only.groups[1].iqm().value
    assert only.improvement(*only.groups).value == pytest.approx((4 * 5 + 0.5) / 25)
    assert main([str(sweep)]) == 0
    assert "P(point solves sooner than hypermodel) = 0.82 [" in capsys.readouterr().out
    lead = "point solved the task soonest (episodes to solve: 25 ± 12.9, 4 of 5 solved). One of its runs solves sooner"
    assert lead in (sweep / "report" / "index.html").read_text()


def test_the_page_of_several_directories_lies_in_the_one_that_holds_them(sweep: Path, capsys) -> None:
    for name in ("hypermodel", "point"):
        (sweep / "of" / name).mkdir(parents=True)
        for path in sweep.glob(f"posterior={name},*"):
            path.rename(sweep / "of" / name / path.name)
    assert main([str(sweep / "of" / "point"), str(sweep / "of" / "hypermodel"), "nowhere"]) == 0
    assert f"written to {sweep / 'of' / 'report' / 'index.html'}" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="wanted out=DIR"):
        common_directory([Path("/proc"), sweep])


# --- curves and charts -----------------------------------------------------------------------------------------------


def run(steps: list[int], values: list[float], solved: int | None = None) -> RunRecord:
    columns = {"step": np.array(steps, float), TAG: np.array(values, float)}
    return RunRecord(Path("run"), {}, {}, {"episodes_to_solve": solved}, columns)


def test_curves_meet_where_all_runs_have_a_number() -> None:
    steps, values = aligned([run([1, 2, 3, 4], [1, np.nan, 3, 4]), run([1, 2, 3], [5, 6, 7]), run([1], [np.nan])], TAG)
    assert steps.tolist() == [1, 3] and values.tolist() == [[1, 3], [5, 7]]
    steps, values = aligned([run([1, 2], [1, 9], solved=7), run([1, 2, 3], [5, 6, 7])], TAG)
    assert steps.tolist() == [1, 2, 3] and values.tolist() == [[1, 9, 9], [5, 6, 7]]
    assert len(aligned([run([1], [1]), run([2], [1])], TAG)[0]) == len(aligned([run([1], [1])], "x")[0]) == 0
    steps, values = aligned([run([*range(1001)], [*range(1001)])], TAG)
    assert len(steps) == 100 and steps[0] == 0 and steps[-1] == 1000 and np.array_equal(values[0], steps)


def test_names_never_touch() -> None:
    x, y = np.array([0.0, 1.0]), np.array([2.0, 2.0])
    shown = {f"<{i}>": Line(x, Interval(y, y, y), i) for i in range(9)}
    for svg in (lines("x", "y", shown), profiles("x", shown)):
        words = [t for t in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text") if "<" in t.text]
        paths = sorted(float(word.get("y")) for word in words)
        assert len(paths) == 9 and np.diff(paths).min() > 16.5


def test_charts_of_equal_numbers_have_no_holes() -> None:
    one = Interval(np.array(3.0), np.array(3.0), np.array(3.0))
    flat = np.array([2.0, 2.0])
    for svg in (strips("x", {"a": (np.array([3.0]), one, 0)}), against("x", "y", {"a": (flat, flat, 0)})):
        ElementTree.fromstring(svg)
        assert not re.search(r"\b(nan|inf)\b", svg)


def test_markup_in_a_run_s_name_and_settings_is_shown_and_never_run(sweep: Path) -> None:
    script = "<script>alert('&')</script>"
    for path in sweep.glob("posterior=point,*/run.json"):
        path.write_text(json.dumps({"command": [f"posterior={script}"]}))
    empty = sweep / script.replace("/", "")
    empty.mkdir()
    (empty / "config.yaml").write_text("")
    assert main([str(sweep)]) == 0
    page = (sweep / "report" / "index.html").read_text()
    assert "<script" not in page and page.count("&lt;script&gt;alert(") > 5
    for name in ("scores", "curves", "profile"):
        assert script in ElementTree.parse(sweep / "report" / f"{name}.svg").getroot().itertext()
