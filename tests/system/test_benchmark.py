"""The benchmark in short: ratios to what ran beside it in the same turns, with generous floors, and no absolute time.

The bars themselves are held by `make bench` on a machine that has nothing else to do. These floors fall when something
has become several times as slow, on any machine.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence

import pytest

from benchmarks.model import Bar, Measured, Results, Row, ratio
from benchmarks.queues import DRAMATIQ_SAFE
from benchmarks.rows import ROWS, work
from benchmarks.rows.calls import CEILING
from benchmarks.run import Run
from benchmarks.services import Services, services

pytestmark = [pytest.mark.system, pytest.mark.alone]

POOL = "multiprocessing.Pool"
POOL_CHUNK = 16


@pytest.fixture(scope="module")
def shared() -> Iterator[Services]:
    with services() as made:
        yield made


def measured(row: Row, shared: Services, names: Sequence[str], turns: int = 2) -> Results:
    """These contenders of the row, each of which must have been measured."""
    chosen = tuple(contender for contender in row.contenders if contender.name in names)
    assert [contender.name for contender in chosen] == list(names)
    small = Row(row.name, row.title, row.figure, row.less_is_better, chosen)
    results = Run(shared, quick=True, turns=turns).measure(small)
    for each in results.values():
        assert not each.missing, f"{each.name}: {each.missing}"
    return results


def small_run(shared: Services) -> Run:
    return Run(shared, quick=True, turns=1)


def test_a_job_of_no_op_items_reaches_a_tenth_of_the_ceiling(shared: Services) -> None:
    results = measured(ROWS["job"](small_run(shared)), shared, ["Windrow", CEILING])
    assert ratio(results, "Windrow", CEILING, "per_s") >= 0.1


def test_single_calls_are_several_times_as_many_as_dramatiqs_at_equal_safety(shared: Services) -> None:
    if shutil.which("redis-server") is None:
        pytest.fail("no redis-server: apt-get install -y --no-install-recommends redis-server", pytrace=False)
    results = measured(ROWS["calls"](small_run(shared)), shared, ["Windrow", DRAMATIQ_SAFE])
    assert ratio(results, "Windrow", DRAMATIQ_SAFE, "per_s") >= 8


def test_items_of_a_millisecond_run_nearly_as_fast_as_in_a_pool(shared: Services) -> None:
    row = work.processor(small_run(shared), chunks=(POOL_CHUNK,))
    assert ratio(measured(row, shared, ["Windrow", POOL]), "Windrow", POOL, "per_s") >= 0.7


def test_heavy_tailed_items_end_hardly_later_than_if_they_were_handed_out_one_by_one(shared: Services) -> None:
    results = measured(ROWS["heavy-tail"](small_run(shared)), shared, ["Windrow", work.ONE_BY_ONE], turns=1)
    assert ratio(results, "Windrow", work.ONE_BY_ONE, "over_bound") <= 1.2


def test_a_chunk_costs_the_core_about_as_much_with_many_nodes_and_jobs_as_with_few(shared: Services) -> None:
    results = measured(ROWS["core"](small_run(shared)), shared, ["Windrow", "10 nodes, 1 job"])
    assert ratio(results, "Windrow", "10 nodes, 1 job", "chunk_us") <= 3


def test_a_bar_is_not_met_by_what_is_missing_or_worse() -> None:
    fast, slow = Measured("Windrow", "", [{"per_s": 30.0}]), Measured("other", "", [{"per_s": 10.0}])
    gone = Measured("gone", "", missing="not to be had")
    results = {each.name: each for each in (fast, slow, gone)}
    assert Bar("Windrow", "per_s", 3, True, to="other").judge(results).met is True
    assert Bar("Windrow", "per_s", 3.1, True, to="other").judge(results).met is False
    assert Bar("Windrow", "per_s", 2, True, to="gone").judge(results).met is None
    assert Bar("Windrow", "per_s", 29, False, "calls/s").judge(results).met is False
