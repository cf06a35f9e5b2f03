"""A cluster as the scheduler would show it, for the tests of what is made from it."""

from __future__ import annotations

from windrow.common.messages import NodeInfo, NodeLoad, SlotState, TaskInfo
from windrow.common.words import NodeId
from windrow.scheduler.core.tally import Tally
from windrow.scheduler.view import ClusterView, Depth, TaskTally, view_tally


def sample_tally(task: str, factor: int) -> TaskTally:
    """Counts that grow with `factor`, each of them above zero from 1 on."""
    tally = Tally(
        items_done=1000 * factor,
        items_failed=3 * factor,
        items_retried=5 * factor,
        chunks_lost=factor,
        busy_s=2.5 * factor,
    )
    for seconds in (0.002, 0.02, 0.02, 0.9, 400.0):
        for _ in range(factor):
            tally.observe_chunk(seconds)
    return view_tally(task, tally)


def sample_load(slots: tuple[str, ...] = ("busy", "busy", "idle")) -> NodeLoad:
    return NodeLoad(
        cpu_percent=62.5,
        cores=4,
        memory_used_bytes=3 << 30,
        memory_total_bytes=8 << 30,
        load_1=1.25,
        load_5=1.0,
        load_15=0.5,
        slots=tuple(SlotState(pid=100 + place, state=state) for place, state in enumerate(slots)),
        spool_bytes=4096,
        deliveries_refused=1,
        workers_lost=2,
    )


def sample_node(
    name: str, *, node: str = "", state: str = "alive", load: NodeLoad | None = None, heard_s_ago: float = 0.3
) -> NodeInfo:
    return NodeInfo(
        id=NodeId(node or f"id-of-{name}"),
        name=name,
        host="host.example",
        state=state,
        slots=3,
        queues=("default",),
        labels={},
        tasks=(TaskInfo("pkg.tasks:add"),),
        errors=(),
        chunks=4,
        load=load,
        heard_s_ago=heard_s_ago,
    )


def sample_view(factor: int = 1) -> ClusterView:
    """Counters grow with `factor`."""
    return ClusterView(
        epoch=3,
        cluster="harvest",
        version="0.1.0",
        uptime_s=60.0 * factor,
        dispatch="amqp",
        broker_up=True,
        broker_detail="",
        store_ok=True,
        store_detail="",
        jobs={"pending": 1, "running": 2},
        depth=(
            Depth("default", "pending", 5000),
            Depth("default", "leased", 400),
            Depth("night", "delayed", 7),
        ),
        tasks=(sample_tally("pkg.tasks:add", factor), sample_tally("pkg.tasks:convert", factor)),
        nodes=(
            sample_node("north", load=sample_load()),
            sample_node("south", load=sample_load(("idle", "starting", "stopping"))),
            sample_node("west", state="lost", load=sample_load(), heard_s_ago=90.0),
        ),
        commits=50 * factor,
        commit_s_sum=0.2 * factor,
        commit_failures=factor,
        records=900 * factor,
        messages=120 * factor,
        messages_refused=factor,
        turns=70 * factor,
        turn_s_sum=0.03 * factor,
        store_bytes=1 << 20,
    )
