"""Aggregates over runs against rliable's numbers, exactly, and against laws.

Obtained once from rliable 1.2.0 (arch 7.2.0): `metrics` on the scores below, and `library.get_interval_estimates` with
20 repetitions, whose resampled indices were stored. A digit is a run; task after task, resample after resample.
"""

import numpy as np
import pytest

from bayesrl.metrics.bootstrap import improvement, iqm, mean, median, profile, resamples

X = np.array([[20.6, 7.0, 12.8], [25.4, 21.7, -6.8], [12.5, 1.5, 2.0], [7.1, 4.4, 17.5], [10.6, 4.2, 7.4]]).T.ravel()
Y = np.array([[25.4, 14.9, -2.1], [3.1, -8.5, -25.5], [6.5, 8.6, -7.4], [22.7, -14.5, 0.5]]).T.ravel()
TASKS = [5, 5, 5], [4, 4, 4]
DRAWN = (
    "3104443112004243411142110240141301002331011434021123020414213101243230302401023410403343344001244214"
    "1240404222413421014010422210102214013403014311130243022010300144334043134202020040043241431323324433"
    "3343132000204412201421431201341201304002330424041440123433314240304222011221324443003444103211402214"
)
DRAWN_X = (
    "0222403143303440144042422302121300040242232241230314420122301413223404332040433213021010233412302201"
    "1104000334343240132141223204010140141442331324423230234233442120203123204110312322332433032224234312"
    "1241103304122300303100442304300340440131203032102110141134043300401431411422031343000424021202121111"
)
DRAWN_Y = (
    "2313322332013021130111211231220012201102330131233211311323231123000133331003123213300123102100311130"
    "1302002222211300113223133110131013222303010313202223121222111223230122202303212321332120320000222120"
    "0122213222302032300222313101322212112022"
)


def counts(digits: str, runs: int, tasks: int = 3) -> np.ndarray:
    """How often each resample holds each run of each task, [R, N]."""
    drawn = np.array([int(digit) for digit in digits]).reshape(-1, tasks, runs)
    return np.stack([(drawn[:, task] == run).sum(1) for task in range(tasks) for run in range(runs)]).astype(np.int32)


def test_values_and_intervals_are_rliables() -> None:
    drawn = counts(DRAWN, 5)
    assert iqm(X, drawn) == pytest.approx((9.277777777777779, 6.101944444444444, 12.398611111111109), rel=1e-12)
    assert mean(X, drawn) == pytest.approx((9.86, 7.439500000000001, 12.960999999999997), rel=1e-12)
    assert profile(X, np.array([-5.0, 0, 5]), drawn).value == pytest.approx([14 / 15, 14 / 15, 2 / 3], rel=1e-12)


def test_the_probability_of_improvement_is_rliables() -> None:
    x, y = counts(DRAWN_X, 5), counts(DRAWN_Y, 4)
    got = improvement(X, Y, x, y, *TASKS)
    assert got == pytest.approx((0.6916666666666665, 0.515, 0.9420833333333333), rel=1e-12)
    assert improvement(Y, X, y, x, *TASKS[::-1]).value == pytest.approx(1 - got.value)
    assert improvement(X, X, x, x, TASKS[0], TASKS[0]).value == 0.5
    with pytest.raises(ValueError, match="3 and 1 tasks"):
        improvement(X, Y, x, y, TASKS[0], [12])


def test_the_points_of_a_curve_are_rliables() -> None:
    curve = np.array([
        [-0.9, 7.7, 7.3, 0.8], [1.9, -4.4, -9.9, -1.7], [0.8, 6.2, 6.0, -1.9],
        [-1.5, -5.2, -7.1, -8.5], [9.8, -2.5, -2.2, -6.3], [3.9, -8.1, -1.1, -4.5],
    ])  # fmt: skip
    drawn = resamples([6], 50, np.random.default_rng(0))
    got = iqm(curve, drawn)
    assert got.value == pytest.approx([1.425, -1.475, -1.1, -3.6])
    for point in range(4):  # of every point what its own scores would give
        alone = iqm(curve[:, point], drawn)
        assert tuple(part[point] for part in got) == pytest.approx(tuple(map(float, alone)), rel=1e-12)


@pytest.mark.parametrize("runs", [1, 2, 3, 4, 7, 8])
def test_resampled_aggregates_are_those_of_the_copied_scores(runs: int) -> None:
    generator = np.random.default_rng(runs)
    scores = generator.normal(size=runs).round(1)  # with ties
    drawn = resamples([runs], 40, generator)
    copied = [np.sort(np.repeat(scores, drawn[:, i])) for i in range(40)]
    cut = runs // 4
    for function, plain in (
        (mean, np.mean), (median, np.median), (iqm, lambda x: x[cut : runs - cut].mean())
    ):  # fmt: skip
        wanted = np.percentile([plain(x) for x in copied], [2.5, 97.5])
        assert function(scores, drawn) == pytest.approx((plain(np.sort(scores)), *wanted), abs=1e-12)


def test_resamples_hold_as_many_of_each_task_as_there_are() -> None:
    drawn = resamples([3, 1, 5], 1000, np.random.default_rng(0))
    assert drawn.shape == (9, 1000)
    for part, runs in ((drawn[:3], 3), (drawn[3:4], 1), (drawn[4:], 5)):
        assert (part.sum(0) == runs).all()
    # 3 of 3 runs, all the same one: with probability 1/27 each, whose share of 1,000 has an sd of 0.006
    assert abs((drawn[0] == 3).mean() - 1 / 27) < 4 * 0.006
