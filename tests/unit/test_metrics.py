"""Metrics made from a view: what is in them, how they are named, and that their number is bounded."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.sample_view import sample_load, sample_node, sample_tally, sample_view
from windrow.monitoring.metrics import (
    NODE_LABELS_MAX,
    OTHER,
    QUEUE_LABELS_MAX,
    TASK_LABELS_MAX,
    WindrowCollector,
    cap_tasks,
    node_labels,
    render_metrics,
)
from windrow.scheduler.core.tally import CHUNK_SECONDS_BOUNDS, Tally
from windrow.scheduler.view import ClusterView, Depth, view_tally

LABELS = {"task", "outcome", "queue", "state", "node", "version", "cluster", "dispatch", "le"}
UNITS = ("_seconds", "_bytes", "_percent", "_items", "_total", "_info")
NAMES_WITHOUT_UNIT = {
    "windrow_epoch", "windrow_jobs", "windrow_nodes", "windrow_broker_up", "windrow_store_up", "windrow_node_up",
    "windrow_node_draining", "windrow_node_slots", "windrow_node_cores", "windrow_node_load1", "windrow_node_chunks",
}  # fmt: skip


def families(view: ClusterView) -> dict[str, Metric]:
    return {family.name: family for family in WindrowCollector(lambda: view).collect()}


def values(view: ClusterView) -> dict[str, float]:
    """Every sample as it is scraped, by its name and labels in the order of the labels' names."""
    body, _ = render_metrics(view)
    return {
        sample.name + "".join(f",{name}={value}" for name, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def test_numbers_of_the_view_reach_the_scrape() -> None:
    found = values(sample_view(2))
    expected = {
        "windrow_info,cluster=harvest,dispatch=amqp,version=0.1.0": 1,
        "windrow_epoch": 3,
        "windrow_uptime_seconds": 120,
        "windrow_broker_up": 1,
        "windrow_store_up": 1,
        "windrow_messages_total": 240,
        "windrow_messages_refused_total": 2,
        "windrow_turns_total": 140,
        "windrow_turn_seconds_total": 0.06,
        "windrow_commits_total": 100,
        "windrow_commit_seconds_total": 0.4,
        "windrow_commit_failures_total": 2,
        "windrow_records_total": 1800,
        "windrow_store_bytes": 1 << 20,
        "windrow_jobs,state=running": 2,
        "windrow_jobs,state=paused": 0,
        "windrow_depth_items,queue=default,state=leased": 400,
        "windrow_depth_items,queue=night,state=delayed": 7,
        "windrow_depth_items,queue=night,state=placed": 0,
        "windrow_items_total,outcome=done,task=pkg.tasks:add": 2000,
        "windrow_items_total,outcome=failed,task=pkg.tasks:add": 6,
        "windrow_items_total,outcome=retried,task=pkg.tasks:add": 10,
        "windrow_chunks_total,outcome=done,task=pkg.tasks:add": 10,
        "windrow_chunks_total,outcome=lost,task=pkg.tasks:add": 2,
        "windrow_task_busy_seconds_total,task=pkg.tasks:add": 5,
        "windrow_nodes,state=alive": 2,
        "windrow_nodes,state=lost": 1,
        "windrow_node_up,node=north": 1,
        "windrow_node_slots,node=north,state=busy": 2,
        "windrow_node_slots,node=south,state=busy": 0,
        "windrow_node_cpu_percent,node=north": 62.5,
        "windrow_node_cores,node=north": 4,
        "windrow_node_load1,node=north": 1.25,
        "windrow_node_memory_used_bytes,node=north": 3 << 30,
        "windrow_node_memory_total_bytes,node=north": 8 << 30,
        "windrow_node_chunks,node=north": 4,
        "windrow_node_heard_seconds,node=north": 0.3,
        "windrow_node_spool_bytes,node=north": 4096,
        "windrow_node_workers_lost_total,node=north": 2,
        "windrow_node_deliveries_refused_total,node=north": 1,
    }
    assert {name: found.get(name) for name in expected} == expected


def test_this_process_is_shown_too() -> None:
    found = values(sample_view())
    assert found["process_resident_memory_bytes"] > 0
    assert any(name.startswith("python_info,") for name in found)


def test_broker_and_store_that_are_down_are_zero() -> None:
    found = values(replace(sample_view(), broker_up=False, store_ok=False))
    assert (found["windrow_broker_up"], found["windrow_store_up"]) == (0, 0)


def test_the_histogram_is_cumulative_and_counts_every_chunk() -> None:
    tally = Tally()
    for seconds in (0.001, 0.0011, 0.5, 1e6):
        tally.observe_chunk(seconds)
    found = values(replace(sample_view(), tasks=(view_tally("t", tally),)))
    buckets = {name: value for name, value in found.items() if name.startswith("windrow_chunk_seconds_bucket")}
    assert len(buckets) == len(CHUNK_SECONDS_BOUNDS) + 1
    assert [buckets[f"windrow_chunk_seconds_bucket,le={le},task=t"] for le in ("0.001", "0.003", "1.0", "300.0")] == [
        1, 2, 3, 3,
    ]  # fmt: skip
    assert buckets["windrow_chunk_seconds_bucket,le=+Inf,task=t"] == 4
    assert found["windrow_chunk_seconds_count,task=t"] == 4
    assert found["windrow_chunk_seconds_sum,task=t"] == pytest.approx(1e6 + 0.5021)


@pytest.mark.parametrize("state", ["lost", "gone"])
def test_a_stopped_node_stays_visible_as_zero_and_without_its_last_load(state: str) -> None:
    found = values(replace(sample_view(), nodes=(sample_node("west", state=state, load=sample_load()),)))
    assert found["windrow_node_up,node=west"] == 0
    assert found["windrow_node_heard_seconds,node=west"] == 0.3
    assert "windrow_node_cpu_percent,node=west" not in found


def test_a_draining_node_is_up() -> None:
    found = values(replace(sample_view(), nodes=(sample_node("west", state="draining", load=sample_load()),)))
    assert found["windrow_node_up,node=west"] == 1
    assert found["windrow_node_draining,node=west"] == 1


def test_a_node_without_a_report_yet_is_up_and_has_no_load() -> None:
    found = values(replace(sample_view(), nodes=(sample_node("new"),)))
    assert found["windrow_node_up,node=new"] == 1
    assert "windrow_node_load1,node=new" not in found


def test_a_slot_state_that_is_not_known_is_counted_as_other() -> None:
    found = values(replace(sample_view(), nodes=(sample_node("n", load=sample_load(("busy", "x1", "x2"))),)))
    assert found["windrow_node_slots,node=n,state=other"] == 2
    assert "windrow_node_slots,node=n,state=x1" not in found


def test_live_nodes_of_one_name_are_told_apart_by_id() -> None:
    nodes = (sample_node("n", node="aa"), sample_node("n", node="bb", state="lost"), sample_node("m"))
    assert [label for label, _ in node_labels(nodes)] == ["m", "n (aa)", "n (bb)"]


def test_a_node_that_said_goodbye_makes_way_for_one_of_its_name() -> None:
    nodes = (sample_node("n", node="aa", state="gone"), sample_node("n", node="bb"))
    assert [(label, node.id) for label, node in node_labels(nodes)] == [("n", "bb")]


def test_of_several_of_a_name_that_said_goodbye_the_last_heard_is_shown() -> None:
    nodes = (
        sample_node("n", node="aa", state="gone", heard_s_ago=50),
        sample_node("n", node="bb", state="gone", heard_s_ago=5),
    )
    assert [(label, node.id) for label, node in node_labels(nodes)] == [("n", "bb")]


def test_labels_are_bounded_and_nothing_is_left_out_of_the_sums() -> None:
    tasks = tuple(sample_tally(f"t{place}", 1) for place in range(TASK_LABELS_MAX + 50))
    depth = tuple(Depth(f"q{place}", "pending", 1) for place in range(QUEUE_LABELS_MAX + 50))
    nodes = tuple(sample_node(f"n{place}", state="lost") for place in range(NODE_LABELS_MAX + 50))
    found = families(replace(sample_view(), tasks=tasks, depth=depth, nodes=(*nodes, sample_node("live"))))

    items = [sample for sample in found["windrow_items"].samples if sample.labels["outcome"] == "done"]
    assert len(items) == TASK_LABELS_MAX + 1
    assert {sample.labels["task"]: sample.value for sample in items}[OTHER] == 50_000
    pending = [sample for sample in found["windrow_depth_items"].samples if sample.labels["state"] == "pending"]
    assert len(pending) == QUEUE_LABELS_MAX + 1
    assert sum(sample.value for sample in pending) == QUEUE_LABELS_MAX + 50
    up = {sample.labels["node"]: sample.value for sample in found["windrow_node_up"].samples}
    assert len(up) == NODE_LABELS_MAX
    assert up["live"] == 1
    assert sum(sample.value for sample in found["windrow_nodes"].samples) == NODE_LABELS_MAX + 51


def test_a_task_keeps_its_label_when_more_tasks_come() -> None:
    before = [sample_tally(f"t{place}", 1) for place in range(TASK_LABELS_MAX + 1)]
    after = [*before, sample_tally("a new one", 1)]
    assert [tally.task for tally in cap_tasks(after)] == [tally.task for tally in cap_tasks(before)]


def test_a_task_called_other_is_counted_with_the_others() -> None:
    tasks = [sample_tally(OTHER, 1), *(sample_tally(f"t{place}", 1) for place in range(TASK_LABELS_MAX + 1))]
    capped = cap_tasks(tasks)
    assert len({tally.task for tally in capped}) == len(capped)
    assert next(tally.items_done for tally in capped if tally.task == OTHER) == 3000


def test_names_help_and_labels_follow_the_rules() -> None:
    for family in families(sample_view()).values():
        samples = {sample.name for sample in family.samples}
        assert re.fullmatch(r"windrow(_[a-z][a-z0-9]*)*", family.name), family.name
        assert re.fullmatch(r"[A-Z][^\n]*\.", family.documentation), f"{family.name}: {family.documentation!r}"
        assert {name for sample in family.samples for name in sample.labels} <= LABELS
        assert (family.type == "counter") == all(name.endswith("_total") for name in samples), family.name
        for name in {family.name} if family.type == "histogram" else samples:
            assert name.endswith(UNITS) or name in NAMES_WITHOUT_UNIT, f"{name} does not say its unit"


def test_every_family_has_a_sample_in_the_sample_view() -> None:
    assert [family.name for family in families(sample_view()).values() if not family.samples] == []


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed; make test-system has it")
def test_promtool_finds_no_fault() -> None:
    body, _ = render_metrics(sample_view())
    checked = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, timeout=30)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, b"")
