"""What a soak judges: growth is found, and noise, a jump of one sample and a restart are not taken for it."""

from __future__ import annotations

import random

import pytest

from tests.soak.figures import all_figures
from tests.soak.judging import LIFE_WARM_UP_S, MB, Figure, Point, judge, judge_all, rates, table, undisturbed, windows

MEMORY = all_figures(["node-0"])["scheduler.memory"][0]
WARM_UP_S = 120.0
EVERY_S = 2.0
BASE = 80.0 * MB


def memory(
    seconds: float, per_min: float = 0.0, *, noise: float = 0.5 * MB, life_s: float = 1e9, seed: int = 1
) -> list[Point]:
    """Of a process that starts at BASE in each life, and warms up there by 20 MB."""
    die = random.Random(seed)
    points: list[Point] = []
    for number in range(int(seconds / EVERY_S)):
        at_s = number * EVERY_S
        life, age_s = divmod(at_s, life_s)
        warm = 20.0 * MB * min(1.0, age_s / (0.8 * LIFE_WARM_UP_S))
        points.append(Point(at_s, BASE + warm + per_min * age_s / 60 + die.gauss(0.0, noise), str(life)))
    return points


@pytest.mark.parametrize("seed", range(20))
def test_a_leak_of_a_megabyte_a_minute_is_found_in_five_minutes_with_restarts(seed: int) -> None:
    verdict = judge(MEMORY, memory(300.0, 1.0 * MB, life_s=200.0, seed=seed), 75.0)
    assert verdict.judged
    assert not verdict.flat
    assert verdict.slope_per_min == pytest.approx(1.0, abs=0.35)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("life_s", [200.0, 600.0])
def test_noise_and_warming_up_after_each_restart_are_no_leak(seed: int, life_s: float) -> None:
    assert judge(MEMORY, memory(900.0, noise=1.0 * MB, life_s=life_s, seed=seed), WARM_UP_S).flat


def test_the_longer_a_run_the_slower_the_leak_that_is_found() -> None:
    leak = 0.2 * MB
    assert judge(MEMORY, memory(300.0, leak), WARM_UP_S).flat
    assert not judge(MEMORY, memory(3600.0, leak), WARM_UP_S).flat


def test_a_few_samples_that_are_far_off_change_nothing() -> None:
    points = memory(600.0)
    points = [Point(p.at_s, p.value * (10 if at % 10 == 9 else 1), p.life) for at, p in enumerate(points)]
    assert judge(MEMORY, points, WARM_UP_S).flat


def test_growth_from_one_life_to_the_next_is_seen_over_the_whole_run_only() -> None:
    by_life, over_restarts = all_figures([])["scheduler.memory"]
    points = [Point(p.at_s, p.value + 10.0 * MB * float(p.life), p.life) for p in memory(1800.0, life_s=180.0)]
    assert judge(by_life, points, WARM_UP_S).flat
    assert not judge(over_restarts, points, WARM_UP_S).flat


def test_a_file_descriptor_that_is_left_open_now_and_then_is_found() -> None:
    figure = all_figures([])["scheduler.files"][0]
    points = [Point(at, 40.0 + at // 30.0, "1") for at in range(0, 300, 2)]
    assert not judge(figure, points, 60.0).flat


def test_throughput_gets_worse_by_falling() -> None:
    figure = all_figures([])["items"][0]
    rising = [Point(at, 100.0 + at, "") for at in range(0, 600, 10)]
    falling = [Point(at, 700.0 - at, "") for at in range(0, 600, 10)]
    assert judge(figure, rising, 60.0).flat
    assert not judge(figure, falling, 60.0).flat


def test_what_is_too_short_is_not_called_flat() -> None:
    verdict = judge(MEMORY, memory(100.0), 90.0)
    assert not verdict.judged
    assert not verdict.flat
    assert "too short to judge  NO" in table([verdict])


def test_the_warm_up_does_not_count() -> None:
    figure = Figure("store", "MB", 1.0)
    points = [Point(at, min(at, 200.0) * 100.0) for at in range(0, 600, 5)]
    assert not judge(figure, points, 0.0).flat
    assert judge(figure, points, 200.0).flat


def test_each_figure_of_a_series_is_judged_and_shown() -> None:
    series = {"scheduler.memory": memory(600.0, 3.0 * MB), "spools": memory(600.0), "unknown": memory(600.0)}
    verdicts = judge_all(all_figures([]), series, WARM_UP_S)
    assert [(each.figure, each.flat) for each in verdicts] == [
        ("scheduler: memory", False),
        ("scheduler: memory, over restarts", False),
        ("nodes: spools", True),
    ]
    assert [line.split()[-1] for line in table(verdicts).splitlines()[2:]] == ["NO", "NO", "yes"]


def test_latencies_are_told_window_by_window() -> None:
    times = [(float(at), 0.001 * (1 + at % 100)) for at in range(200)]
    assert [(p.at_s, p.value) for p in windows(times, 100.0, 0.50)] == [
        (50.0, pytest.approx(0.051)),
        (150.0, pytest.approx(0.051)),
    ]
    assert [p.value for p in windows(times, 100.0, 0.99)] == [pytest.approx(0.1), pytest.approx(0.1)]


def test_rates_are_told_of_whole_windows_those_without_anything_too() -> None:
    found = rates([(1.0, 5), (2.0, 5), (25.0, 40), (31.0, 9)], 10.0, 35.0)
    assert [(p.at_s, p.value) for p in found] == [(5.0, 1.0), (15.0, 0.0), (25.0, 4.0)]


def test_a_call_that_a_restart_lies_over_says_nothing_of_latency() -> None:
    calls = [(0.0, 0.1), (9.0, 2.0), (10.5, 0.1), (12.0, 0.1)]
    assert undisturbed(calls, [(10.0, 11.0)]) == [(0.0, 0.1), (12.0, 0.1)]
