"""Makes windrow.json, the Grafana dashboard of throughput and node load; run it as a script after a change here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.builders import common as options
from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.builders import prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueGraphMode,
    DataSourceRef,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, Threshold, ThresholdsMode

PATH: Final = Path(__file__).with_name("windrow.json")
SOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
ROW_WIDTH: Final = 24


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression; `legend` names its series."""

    expr: str
    legend: str = "__auto"


@dataclass(frozen=True, slots=True)
class Number:
    """A panel of one number: coloured good from `good_from` on, or bad from `bad_from` on."""

    title: str
    about: str
    expr: str
    unit: str = "short"
    good_from: float | None = None
    bad_from: float | None = None


@dataclass(frozen=True, slots=True)
class Graph:
    """A panel over time; `stacked` where the series are parts of a whole, `top` where the unit has an end."""

    title: str
    about: str
    unit: str
    queries: tuple[Query, ...]
    stacked: bool = False
    top: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A titled group of panels."""

    title: str
    panels: tuple[Number | Graph, ...]


GLANCE: Final = Row("At a glance", (
    Number("Items done", "Items that ended with a value, per second.",
           "sum(rate(windrow_items_total{outcome='done'}[$__rate_interval]))", "ops"),
    Number("Items failed", "Items that failed for good, per second.",
           "sum(rate(windrow_items_total{outcome='failed'}[$__rate_interval]))", "ops", bad_from=0.001),
    Number("Jobs not finished", "Pending, running, paused and cancelling.", "sum(windrow_jobs)"),
    Number("Nodes up", "Nodes that are heard.", "sum(windrow_node_up)", good_from=1),
    Number("Nodes lost", "Nodes that fell silent without a goodbye.", "sum(windrow_nodes{state='lost'})", bad_from=1),
    Number("Broker up", "1 while chunks can be handed out.", "min(windrow_broker_up)", good_from=1),
    Number("Store up", "1 while the store takes commits.", "min(windrow_store_up)", good_from=1),
    Number("Epoch", "Number of the reign over the store: it grows with each start of the scheduler.",
           "max(windrow_epoch)"),
))  # fmt: skip

THROUGHPUT: Final = Row("Throughput", (
    Graph("Items per second", "Items done and failed, and attempts that are retried, by task.", "ops", (
        Query("sum by (task, outcome) (rate(windrow_items_total[$__rate_interval]))", "{{task}} {{outcome}}"),
    )),
    Graph("Chunks per second", "Chunks that came to their end, and chunks that were lost, by task.", "ops", (
        Query("sum by (task, outcome) (rate(windrow_chunks_total[$__rate_interval]))", "{{task}} {{outcome}}"),
    )),
    Graph("Chunk duration", "From placing a chunk to its end, all tasks.", "s", (
        Query("histogram_quantile(0.5, sum by (le) (rate(windrow_chunk_seconds_bucket[$__rate_interval])))", "half"),
        Query("histogram_quantile(0.9, sum by (le) (rate(windrow_chunk_seconds_bucket[$__rate_interval])))", "90 %"),
        Query("histogram_quantile(0.99, sum by (le) (rate(windrow_chunk_seconds_bucket[$__rate_interval])))", "99 %"),
    )),
    Graph("Workers at work", "How many workers the items of each task keep busy.", "short", (
        Query("sum by (task) (rate(windrow_task_busy_seconds_total[$__rate_interval]))", "{{task}}"),
    ), stacked=True),
    Graph("Failures and retries", "Items failed for good, attempts retried and chunks lost, per second.", "ops", (
        Query("sum by (task) (rate(windrow_items_total{outcome='failed'}[$__rate_interval]))", "{{task}} failed"),
        Query("sum by (task) (rate(windrow_items_total{outcome='retried'}[$__rate_interval]))", "{{task}} retried"),
        Query("sum by (task) (rate(windrow_chunks_total{outcome='lost'}[$__rate_interval]))", "{{task}} chunks lost"),
    )),
))  # fmt: skip

WORK: Final = Row("Jobs and queues", (
    Graph("Depth", "Items that are not finished, by queue and where they are.", "short", (
        Query("sum by (queue, state) (windrow_depth_items)", "{{queue}} {{state}}"),
    ), stacked=True),
    Graph("Jobs", "Jobs that are not finished, by state.", "short", (
        Query("sum by (state) (windrow_jobs)", "{{state}}"),
    ), stacked=True),
))  # fmt: skip

NODES: Final = Row("Nodes", (
    Graph("Nodes", "Nodes by state.", "short", (Query("sum by (state) (windrow_nodes)", "{{state}}"),), stacked=True),
    Graph("Up", "1 while the node is heard; a node that has stopped stays here as 0.", "short", (
        Query("min by (node) (windrow_node_up)", "{{node}}"),
    ), top=1),
    Graph("Slots busy", "Workers that run items, by node.", "short", (
        Query("sum by (node) (windrow_node_slots{state='busy'})", "{{node}}"),
    ), stacked=True),
    Graph("Slots idle", "Workers that wait for work, by node.", "short", (
        Query("sum by (node) (windrow_node_slots{state='idle'})", "{{node}}"),
    ), stacked=True),
    Graph("Processor", "All cores of the node's machine together.", "percent", (
        Query("max by (node) (windrow_node_cpu_percent)", "{{node}}"),
    ), top=100),
    Graph("Memory", "Part of the memory of the node's machine that is in use.", "percentunit", (
        Query("max by (node) (windrow_node_memory_used_bytes / windrow_node_memory_total_bytes)", "{{node}}"),
    ), top=1),
    Graph("Memory in use", "On the node's machine.", "bytes", (
        Query("max by (node) (windrow_node_memory_used_bytes)", "{{node}}"),
    )),
    Graph("Load", "Load average over one minute; above the number of cores the machine has more to do than it can.",
          "short", (Query("max by (node) (windrow_node_load1)", "{{node}}"),)),
    Graph("Chunks at the node", "Placed there or leased to it.", "short", (
        Query("sum by (node) (windrow_node_chunks)", "{{node}}"),
    ), stacked=True),
    Graph("Last heard", "Time since the node's last report.", "s", (
        Query("min by (node) (windrow_node_heard_seconds)", "{{node}}"),
    )),
    Graph("Trouble at the node", "Workers that died and chunk messages that were refused, per second.", "ops", (
        Query("sum by (node) (rate(windrow_node_workers_lost_total[$__rate_interval]))", "{{node}} workers lost"),
        Query("sum by (node) (rate(windrow_node_deliveries_refused_total[$__rate_interval]))", "{{node}} refused"),
    )),
    Graph("Spool", "Outcomes that wait on the node's disk for the scheduler.", "bytes", (
        Query("sum by (node) (windrow_node_spool_bytes)", "{{node}}"),
    )),
))  # fmt: skip

# process_* metrics are everybody's; `and on (…) windrow_epoch` keeps those of schedulers.
SCHEDULER: Final = Row("Scheduler", (
    Graph("Broker and store", "1 while all is well.", "short", (
        Query("windrow_broker_up", "broker"),
        Query("windrow_store_up", "store"),
    ), top=1),
    Graph("Commit latency", "Mean time of one commit.", "s", (
        Query("sum(rate(windrow_commit_seconds_total[$__rate_interval]))"
              " / sum(rate(windrow_commits_total[$__rate_interval]))", "commit"),
    )),
    Graph("Commits and messages", "Per second.", "ops", (
        Query("sum(rate(windrow_commits_total[$__rate_interval]))", "commits"),
        Query("sum(rate(windrow_records_total[$__rate_interval]))", "records"),
        Query("sum(rate(windrow_messages_total[$__rate_interval]))", "messages"),
        Query("sum(rate(windrow_turns_total[$__rate_interval]))", "turns"),
    )),
    Graph("Trouble at the scheduler", "Failed commits and refused messages, per second.", "ops", (
        Query("sum(rate(windrow_commit_failures_total[$__rate_interval]))", "failed commits"),
        Query("sum(rate(windrow_messages_refused_total[$__rate_interval]))", "refused messages"),
    )),
    Graph("Processor of the scheduler", "Part of one core: all of it, planning, and waiting for commits.",
          "percentunit", (
        Query("rate(process_cpu_seconds_total[$__rate_interval]) and on (job, instance) windrow_epoch", "all"),
        Query("sum(rate(windrow_turn_seconds_total[$__rate_interval]))", "turns"),
        Query("sum(rate(windrow_commit_seconds_total[$__rate_interval]))", "in commits"),
    )),
    Graph("Memory and store", "Memory of the scheduler's process, and size of the store.", "bytes", (
        Query("process_resident_memory_bytes and on (job, instance) windrow_epoch", "memory"),
        Query("windrow_store_bytes", "store"),
    )),
))  # fmt: skip

ROWS: Final = (GLANCE, THROUGHPUT, WORK, NODES, SCHEDULER)


def build_dashboard() -> str:
    """The text of windrow.json."""
    made = (
        dashboards.Dashboard("Windrow")
        .uid("windrow")
        .description("Throughput, queues, nodes and the scheduler of a Windrow cluster. Made by build.py.")
        .tags(["windrow"])
        .editable()
        .refresh("5s")
        .time("now-15m", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboards.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    )
    ids = count(1)
    for row in ROWS:
        made.with_row(dashboards.Row(row.title).id(next(ids)))
        width, height = _size(row)
        for panel in row.panels:
            shown = _number(panel) if isinstance(panel, Number) else _graph(panel)
            made.with_panel(shown.id(next(ids)).height(height).span(width))
    text = json.dumps(made.build(), cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False)
    return text + "\n"


def _size(row: Row) -> tuple[int, int]:
    """Width and height of the row's panels: numbers all on one line, graphs two or three to a line."""
    if all(isinstance(panel, Number) for panel in row.panels):
        return ROW_WIDTH // len(row.panels), 4
    return (ROW_WIDTH // 3 if len(row.panels) % 3 == 0 else ROW_WIDTH // 2), 8


def _number(number: Number) -> stat.Panel:
    steps = [Threshold(value=None, color="text")]
    if number.good_from is not None:
        steps = [Threshold(value=None, color="red"), Threshold(value=number.good_from, color="green")]
    elif number.bad_from is not None:
        steps = [Threshold(value=None, color="green"), Threshold(value=number.bad_from, color="red")]
    return (
        stat.Panel()
        .title(number.title)
        .description(number.about)
        .datasource(SOURCE)
        .unit(number.unit)
        .graph_mode(BigValueGraphMode.AREA)
        .reduce_options(options.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(dashboards.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
        .with_target(_target(0, Query(number.expr)))
    )


def _graph(graph: Graph) -> timeseries.Panel:
    panel = (
        timeseries.Panel()
        .title(graph.title)
        .description(graph.about)
        .datasource(SOURCE)
        .unit(graph.unit)
        .min(0)
        .show_points(VisibilityMode.NEVER)
        .fill_opacity(30 if graph.stacked else 10)
        .legend(
            options.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(options.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    )
    if graph.stacked:
        panel.stacking(options.StackingConfig().mode(StackingMode.NORMAL))
    if graph.top is not None:
        panel.max(graph.top)
    for place, query in enumerate(graph.queries):
        panel.with_target(_target(place, query))
    return panel


def _target(place: int, query: Query) -> prometheus.Dataquery:
    return (
        prometheus.Dataquery()
        .expr(query.expr)
        .legend_format(query.legend)
        .ref_id(chr(ord("A") + place))
        .datasource(SOURCE)
        .range()
    )


if __name__ == "__main__":
    PATH.write_text(build_dashboard(), encoding="utf-8")
