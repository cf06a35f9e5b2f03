"""Turns what the scheduler shows into Prometheus metrics, anew at each scrape.

Labels are bounded: tasks, queues and nodes up to a limit each, never jobs or items; those are for the API to show.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from windrow.common.messages import NodeInfo
from windrow.common.words import TERMINAL_STATES, JobState
from windrow.scheduler.view import DEPTH_STATES, ClusterView, Histogram, TaskTally, add_tallies

TASK_LABELS_MAX: Final = 200
"""Tasks with a label of their own; later ones are counted together under OTHER."""

QUEUE_LABELS_MAX: Final = 200
"""Queues with a label of their own; later ones are counted together under OTHER."""

NODE_LABELS_MAX: Final = 1000
"""Nodes shown one by one, live ones first; `windrow_nodes` counts all of them."""

OTHER: Final = "other"

NODE_STATES: Final = ("alive", "draining", "lost", "gone")
NODE_STATES_UP: Final = frozenset({"alive", "draining"})
SLOT_STATES: Final = ("starting", "idle", "busy", "stopping")


class WindrowCollector(Collector):
    """The metric families of one scheduler; `view` is called once for each scrape."""

    def __init__(self, view: Callable[[], ClusterView]) -> None:
        self._view = view

    def collect(self) -> Iterator[Metric]:
        view = self._view()
        yield from _scheduler_families(view)
        yield from _store_families(view)
        yield from _work_families(view)
        yield from _task_families(cap_tasks(view.tasks))
        yield from _node_families(view.nodes)


def render_metrics(view: ClusterView) -> tuple[bytes, str]:
    """The body of /metrics and its content type: the cluster as in `view`, and this process."""
    registry = CollectorRegistry()
    registry.register(WindrowCollector(lambda: view))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4


def cap_tasks(tasks: Sequence[TaskTally]) -> list[TaskTally]:
    """The first TASK_LABELS_MAX tasks, and what is beyond them added up under OTHER."""
    shown: dict[str, TaskTally] = {}
    for place, tally in enumerate(tasks):
        label = tally.task if place < TASK_LABELS_MAX else OTHER
        before = shown.get(label)
        shown[label] = replace(tally, task=label) if before is None else add_tallies(label, before, tally)
    return list(shown.values())


def node_labels(nodes: Sequence[NodeInfo]) -> list[tuple[str, NodeInfo]]:
    """Which nodes are shown, and under which label: the name, or name and id where several have the name.

    A node that has said goodbye makes way for another of its name: that is a machine set up anew. A lost one does not.
    """
    same_name = Counter(node.name for node in nodes)
    left = [node for node in nodes if not (node.state == "gone" and same_name[node.name] > 1)]
    # Where all of a name have said goodbye, the one heard last stands for them.
    for name in same_name.keys() - {node.name for node in left}:
        left.append(min((node for node in nodes if node.name == name), key=lambda node: node.heard_s_ago))
    left.sort(key=lambda node: (node.state not in NODE_STATES_UP, node.heard_s_ago))
    shown = sorted(left[:NODE_LABELS_MAX], key=lambda node: (node.name, node.id))
    names = Counter(node.name for node in shown)
    return [(node.name if names[node.name] == 1 else f"{node.name} ({node.id})", node) for node in shown]


def _scheduler_families(view: ClusterView) -> Iterator[Metric]:
    yield InfoMetricFamily(
        "windrow",
        "The scheduler's version, its cluster and how it hands out chunks.",
        {"version": view.version, "cluster": view.cluster, "dispatch": view.dispatch},
    )
    yield GaugeMetricFamily("windrow_epoch", "Number of this reign over the store.", view.epoch)
    yield GaugeMetricFamily("windrow_uptime_seconds", "Time since this scheduler started.", view.uptime_s)
    yield GaugeMetricFamily("windrow_broker_up", "Whether chunks can be handed out now (1) or not (0).", view.broker_up)
    yield CounterMetricFamily("windrow_messages_total", "Messages read from the control channel.", view.messages)
    yield CounterMetricFamily(
        "windrow_messages_refused_total", "Messages of the control channel that were refused.", view.messages_refused
    )
    yield CounterMetricFamily("windrow_turns_total", "Turns of the scheduler's loop.", view.turns)
    yield CounterMetricFamily("windrow_turn_seconds_total", "Time spent in turns, commits included.", view.turn_s_sum)


def _store_families(view: ClusterView) -> Iterator[Metric]:
    yield GaugeMetricFamily("windrow_store_up", "Whether the store takes commits (1) or not (0).", view.store_ok)
    yield GaugeMetricFamily("windrow_store_bytes", "Size of the store.", view.store_bytes)
    yield CounterMetricFamily("windrow_commits_total", "Commits to the store.", view.commits)
    yield CounterMetricFamily("windrow_commit_seconds_total", "Time spent in commits.", view.commit_s_sum)
    yield CounterMetricFamily(
        "windrow_commit_failures_total", "Commits that failed; nothing of them was answered.", view.commit_failures
    )
    yield CounterMetricFamily("windrow_records_total", "Records written by commits.", view.records)


def _work_families(view: ClusterView) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("windrow_jobs", "Jobs that are not finished, by state.", labels=["state"])
    for state in JobState:
        if state not in TERMINAL_STATES:
            jobs.add_metric([state.value], view.jobs.get(state.value, 0))
    yield jobs

    items: dict[str, Counter[str]] = {}
    for depth in view.depth:
        room = depth.queue in items or len(items) < QUEUE_LABELS_MAX
        items.setdefault(depth.queue if room else OTHER, Counter())[depth.state] += depth.items
    family = GaugeMetricFamily(
        "windrow_depth_items", "Items that are not finished, by queue and where they are.", labels=["queue", "state"]
    )
    for queue, counts in items.items():
        for depth_state in DEPTH_STATES:
            family.add_metric([queue, depth_state], counts[depth_state])
    yield family


def _task_families(tasks: Sequence[TaskTally]) -> Iterator[Metric]:
    items = CounterMetricFamily(
        "windrow_items_total",
        "Items that were done, that failed for good, and attempts that are retried.",
        labels=["task", "outcome"],
    )
    chunks = CounterMetricFamily(
        "windrow_chunks_total", "Chunks that came to their end, and chunks that were lost.", labels=["task", "outcome"]
    )
    busy = CounterMetricFamily(
        "windrow_task_busy_seconds_total", "Time that items took in the workers, all workers added up.", labels=["task"]
    )
    seconds = HistogramMetricFamily("windrow_chunk_seconds", "Time from placing a chunk to its end.", labels=["task"])
    for tally in tasks:
        items.add_metric([tally.task, "done"], tally.items_done)
        items.add_metric([tally.task, "failed"], tally.items_failed)
        items.add_metric([tally.task, "retried"], tally.items_retried)
        chunks.add_metric([tally.task, "done"], tally.chunks_done)
        chunks.add_metric([tally.task, "lost"], tally.chunks_lost)
        busy.add_metric([tally.task], tally.busy_s)
        seconds.add_metric([tally.task], _cumulative(tally.chunk_s), tally.chunk_s.sum)
    yield from (items, chunks, busy, seconds)


def _cumulative(histogram: Histogram) -> list[tuple[str, float]]:
    buckets: list[tuple[str, float]] = []
    seen = 0
    for bound, count in zip((*map(str, histogram.bounds), "+Inf"), histogram.counts, strict=True):
        seen += count
        buckets.append((bound, seen))
    return buckets


def _node_families(nodes: Sequence[NodeInfo]) -> Iterator[Metric]:
    states = Counter(node.state for node in nodes)
    by_state = GaugeMetricFamily("windrow_nodes", "Nodes known, by state.", labels=["state"])
    for state in NODE_STATES:
        by_state.add_metric([state], states[state])
    yield by_state

    up = GaugeMetricFamily("windrow_node_up", "Whether the node is heard (1) or lost or gone (0).", labels=["node"])
    draining = GaugeMetricFamily(
        "windrow_node_draining", "Whether the node finishes its work and takes no more (1).", labels=["node"]
    )
    heard = GaugeMetricFamily("windrow_node_heard_seconds", "Time since the node was last heard.", labels=["node"])
    chunks = GaugeMetricFamily("windrow_node_chunks", "Chunks placed at or leased to the node.", labels=["node"])
    labelled = node_labels(nodes)
    for label, node in labelled:
        up.add_metric([label], node.state in NODE_STATES_UP)
        draining.add_metric([label], node.state == "draining")
        heard.add_metric([label], node.heard_s_ago)
        chunks.add_metric([label], node.chunks)
    yield from (up, draining, heard, chunks)
    yield from _load_families(labelled)


def _load_families(labelled: Sequence[tuple[str, NodeInfo]]) -> Iterator[Metric]:
    slots = GaugeMetricFamily("windrow_node_slots", "Worker processes of the node, by state.", labels=["node", "state"])
    cpu = GaugeMetricFamily(
        "windrow_node_cpu_percent", "Processor use of the node's machine, all cores together 100.", labels=["node"]
    )
    cores = GaugeMetricFamily("windrow_node_cores", "Processor cores of the node's machine.", labels=["node"])
    load = GaugeMetricFamily("windrow_node_load1", "Load average over one minute.", labels=["node"])
    used = GaugeMetricFamily("windrow_node_memory_used_bytes", "Memory in use on the node's machine.", labels=["node"])
    total = GaugeMetricFamily("windrow_node_memory_total_bytes", "Memory of the node's machine.", labels=["node"])
    spool = GaugeMetricFamily("windrow_node_spool_bytes", "Outcomes on disk, not yet acknowledged.", labels=["node"])
    workers = CounterMetricFamily(
        "windrow_node_workers_lost_total", "Worker processes that died without being asked to.", labels=["node"]
    )
    refused = CounterMetricFamily(
        "windrow_node_deliveries_refused_total", "Foreign, forged or malformed chunk messages.", labels=["node"]
    )
    for label, node in labelled:
        # The last load of a node that is not heard any more would be shown as if it were still true.
        if node.load is None or node.state not in NODE_STATES_UP:
            continue
        by_state = Counter(slot.state if slot.state in SLOT_STATES else OTHER for slot in node.load.slots)
        for state in (*SLOT_STATES, *({OTHER} & by_state.keys())):
            slots.add_metric([label, state], by_state[state])
        cpu.add_metric([label], node.load.cpu_percent)
        cores.add_metric([label], node.load.cores)
        load.add_metric([label], node.load.load_1)
        used.add_metric([label], node.load.memory_used_bytes)
        total.add_metric([label], node.load.memory_total_bytes)
        spool.add_metric([label], node.load.spool_bytes)
        workers.add_metric([label], node.load.workers_lost)
        refused.add_metric([label], node.load.deliveries_refused)
    yield from (slots, cpu, cores, load, used, total, spool, workers, refused)
