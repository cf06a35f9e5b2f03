"""Takes the picture of the cluster that the metrics and pages are made from."""

from __future__ import annotations

from collections import Counter

from windrow.common.errors import StoreError
from windrow.common.version import windrow_version
from windrow.common.words import Now
from windrow.scheduler.core.info import depths, node_info
from windrow.scheduler.loop import SchedulerLoop
from windrow.scheduler.store import SqlStore
from windrow.scheduler.view import ClusterView, Depth, view_tally


def make_view(work: SchedulerLoop, store: SqlStore, now: Now) -> ClusterView:
    """Everything shown, as of now; called in the scheduler's loop."""
    state, counts = work.engine.state, work.engine.counts
    try:
        trouble = work.failed or store.check()
    except StoreError as error:
        trouble = str(error)
    return ClusterView(
        epoch=state.epoch,
        cluster=state.cluster,
        version=windrow_version(),
        uptime_s=now.mono - work.started_mono,
        dispatch=state.settings.dispatch,
        broker_up=state.broker_up,
        broker_detail=state.broker_detail,
        store_ok=not trouble,
        store_detail=trouble,
        jobs=dict(Counter(job.state.value for job in state.jobs.values())),
        depth=tuple(Depth(queue, where, items) for (queue, where), items in sorted(depths(state).items())),
        tasks=tuple(view_tally(task, tally) for task, tally in state.tallies.items()),
        nodes=tuple(node_info(node, now) for node in state.nodes.values()),
        commits=counts.commits,
        commit_s_sum=counts.commit_s_sum,
        commit_failures=counts.commit_failures,
        records=counts.records,
        messages=work.messages,
        messages_refused=work.messages_refused,
        turns=counts.turns,
        turn_s_sum=counts.turn_s_sum,
        store_bytes=store.size_bytes(),
    )
