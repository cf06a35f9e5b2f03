"""What nodes say: hello, reports of outcomes and leases, goodbye. The one place where an outcome is committed."""

from __future__ import annotations

from windrow.common.keys import node_key
from windrow.common.messages import (
    Accepted,
    ChunkReport,
    ItemFailure,
    NodeBye,
    NodeHello,
    NodeWelcome,
    Refused,
    Report,
    Reported,
    ValueRun,
)
from windrow.common.ranges import RangeSet
from windrow.common.words import FailureKind, Fence, Now
from windrow.scheduler.core.commands import EmptyNode, OpenNode, Settle
from windrow.scheduler.core.jobs import finish_if_complete
from windrow.scheduler.core.losses import failure_record, lose_chunk, quarantine, stop_if_hopeless
from windrow.scheduler.core.machines import (
    ChunkState,
    ChunkTrigger,
    NodeState,
    NodeTrigger,
    next_chunk_state,
    next_node_state,
)
from windrow.scheduler.core.records import LeaseChunk, PutAttempt, PutFailure, PutNode, PutValues, ShortenChunk
from windrow.scheduler.core.retries import Quarantine, decide_retry
from windrow.scheduler.core.state import (
    Chunk,
    ItemTime,
    Job,
    Node,
    Out,
    State,
    close_chunk,
    delay,
    due_at,
    give_back_chunk,
    return_to_pending,
)
from windrow.scheduler.core.twins import close_twin, ends_for_twin
from windrow.scheduler.core.unfit import on_expected_node_gone, on_unfit, stop_if_no_node_is_left

FORMER_BOOTS_MAX = 8
SEEN_EVERY_S = 3600.0
"""How old the store's note of when a living node was heard may grow."""
KEY_ID = 1
"""Of the nodes' signing keys; it grows when keys are rotated."""


def on_node_hello(state: State, hello: NodeHello, now: Now, out: Out) -> NodeWelcome | Refused:
    node = state.nodes.get(hello.node)
    if node is not None and _is_double(state, node, hello, now):
        return Refused(
            "usage",
            f"node {hello.name} ({hello.node}) is alive on {node.host} already: two daemons share one state folder's "
            "identity; give each its own --state",
        )
    if node is not None and _is_late(node, hello):
        return _welcome(state, node)
    if node is None:
        node = state.nodes[hello.node] = Node(
            hello.node, hello.name, hello.host, NodeState.EXPECTED, now.mono, now.wall
        )
    rebooted = node.boot != hello.boot
    if rebooted and node.boot:
        node.former_boots[node.boot] = node.seq
        if len(node.former_boots) > FORMER_BOOTS_MAX:
            del node.former_boots[next(iter(node.former_boots))]
    node.state = next_node_state(node.state, NodeTrigger.HELLO)
    node.name, node.host, node.boot, node.slots = hello.name, hello.host, hello.boot, hello.slots
    node.queues, node.labels, node.version = frozenset(hello.queues), hello.labels, hello.version
    node.tasks = {task.name: task for task in hello.tasks}
    node.errors, node.heard_at, node.seen_wall, node.leaving = hello.errors, now.mono, now.wall, False
    if rebooted or hello.seq:
        node.seq = hello.seq
    if rebooted:
        for job in state.jobs.values():
            job.unfit.pop(node.id, None)
    out.append(node_record(node))
    out.append(OpenNode(node.id))
    _free_lost_fences(state, node, frozenset(hello.holds), now, out, rebooted=rebooted)
    node.holds = frozenset(hello.holds)
    state.plan_wanted = True
    return _welcome(state, node)


def _welcome(state: State, node: Node) -> NodeWelcome:
    settings = state.settings
    return NodeWelcome(
        epoch=state.epoch,
        cluster=state.cluster,
        heartbeat_s=settings.heartbeat_s,
        lease_s=settings.lease_s,
        dispatch=settings.dispatch,
        queue="",
        key=node_key(state.secret, node.id),
        key_id=KEY_ID,
        drained=node.drained,
    )


def _is_late(node: Node, hello: NodeHello) -> bool:
    """A copy that was overtaken on its way: what was taken since then is not lost because it does not name it.

    A boot that was succeeded and still lives says something new when it speaks: it is let in, or refused as a double.
    """
    if hello.boot == node.boot:
        return 0 < hello.seq < node.seq
    return 0 < hello.seq <= node.former_boots.get(hello.boot, 0)


def _is_double(state: State, node: Node, hello: NodeHello, now: Now) -> bool:
    """Another boot under this identity, from another machine, while the known one is still heard.

    On the same machine the state folder's lock has already made sure that the old daemon is gone.
    """
    heard = now.mono - node.heard_at < 2.5 * state.settings.heartbeat_s
    return node.state is NodeState.ALIVE and node.boot != hello.boot and node.host != hello.host and heard


def _free_lost_fences(state: State, node: Node, holds: frozenset[Fence], now: Now, out: Out, *, rebooted: bool) -> None:
    """A hello names all that the node has: leases it does not name are lost, and so is what an older epoch sent."""
    stale = False
    for chunk in list(node.chunks.values()):
        if chunk.fence in holds:
            continue
        older = chunk.fence.epoch < state.epoch
        if chunk.state is ChunkState.LEASED or older:
            stale = stale or older
            # Another boot: the daemon died, or its machine did, and perhaps by what it was executing.
            lose_chunk(state, chunk, now, out, blame=rebooted)
    if stale:
        out.append(EmptyNode(node.id))


def node_record(node: Node) -> PutNode:
    return PutNode(node.id, node.name, node.host, node.drained, node.state is NodeState.GONE, node.seen_wall)


def on_node_bye(state: State, bye: NodeBye, now: Now, out: Out) -> Accepted:
    node = state.nodes.get(bye.node)
    if node is not None and node.boot == bye.boot:
        part_with_node(state, node, NodeTrigger.BYE, now, out)
    return Accepted(state.epoch)


def part_with_node(state: State, node: Node, trigger: NodeTrigger, now: Now, out: Out) -> None:
    """The node left or was lost: everything it had goes back, and what is on the way to it is dead."""
    expected = node.state is NodeState.EXPECTED
    node.state = next_node_state(node.state, trigger)
    for chunk in list(node.chunks.values()):
        lose_chunk(state, chunk, now, out, blame=trigger is NodeTrigger.LOSE)
    if expected:
        on_expected_node_gone(state, now, out)
    out.append(node_record(node))
    out.append(EmptyNode(node.id))


def on_report(state: State, report: Report, now: Now, out: Out) -> Reported:
    """Outcomes are taken whatever the boot: the fence alone decides. Leases and load only from the known boot."""
    node = state.nodes.get(report.node)
    known = node is not None and node.boot == report.boot and node.state is NodeState.ALIVE
    dead: list[Fence] = []
    ended: set[Fence] = set()
    for chunk_report in report.chunks:
        _on_chunk_report(state, report, chunk_report, now, out, dead, ended)
    if node is not None and known and report.seq >= node.seq:
        # An older report that arrives late says nothing about what the node holds now.
        node.seq = report.seq
        node.heard_at = now.mono
        if abs(now.wall - node.seen_wall) > SEEN_EVERY_S:
            node.seen_wall = now.wall
            out.append(node_record(node))
        if report.leaving:
            node.leaving = True
        if report.load is not None:
            node.load = report.load
        _on_holds(state, node, report.holds, now, out, dead, ended)
    return Reported(state.epoch, tuple(dict.fromkeys(dead)), rejoin=not known)


def _on_holds(
    state: State, node: Node, holds: tuple[Fence, ...], now: Now, out: Out, dead: list[Fence], ended: set[Fence]
) -> None:
    held = frozenset(holds)
    for fence in holds:
        chunk = node.chunks.get(fence)
        if chunk is None:
            if fence not in ended:
                dead.append(fence)
            continue
        if state.jobs[chunk.job].winding_down:
            dead.append(fence)
        if chunk.state is not ChunkState.LEASED:
            chunk.state = next_chunk_state(chunk.state, ChunkTrigger.LEASE)
            out.append(LeaseChunk(fence))
            out.append(Settle(fence, node.id))
    for fence in node.holds - held:
        chunk = node.chunks.get(fence)
        if chunk is not None and chunk.state is ChunkState.LEASED:
            # The node is alive and dropped it: that is a loss for on_lost="fail", and no one's blame otherwise.
            lose_chunk(state, chunk, now, out, blame=False)
    node.holds = held


def _on_chunk_report(
    state: State, report: Report, said: ChunkReport, now: Now, out: Out, dead: list[Fence], ended: set[Fence]
) -> None:
    chunk = state.chunks.get(said.fence)
    if chunk is None or chunk.node != report.node or (said.job and said.job != chunk.job):
        dead.append(said.fence)
        return
    job = state.jobs[chunk.job]
    chunk.wanted_back = False
    tombstone = not said.job and said.fence not in report.holds and chunk.state is not ChunkState.LEASED
    if chunk.twin is not None and ends_for_twin(job, chunk, said):
        # A node may say again what it has said of other items of the chunk: only this one's is news.
        out += [_history(state, job, chunk, each, now) for each in said.failures if each.item in chunk.remaining]
        give_back_chunk(state, chunk, out)
        ended.add(said.fence)
        return
    if job.winding_down:
        _resolve_cancelled(job, chunk, said)
    else:
        _commit(state, job, chunk, said, now, out)
    if tombstone:
        # The answer to `give_up`: the node has never had it, and will not start it if it still arrives.
        give_back_chunk(state, chunk, out)
    elif not chunk.remaining:
        state.tally(job.task).observe_chunk(now.mono - chunk.placed_at)
        close_twin(state, chunk, out)
        close_chunk(state, chunk, out)
    if chunk.state is ChunkState.CLOSED:
        ended.add(said.fence)
        finish_if_complete(state, job, now, out)


def _resolve_cancelled(job: Job, chunk: Chunk, said: ChunkReport) -> None:
    """A job that winds down commits nothing more: whatever came of these items, they are cancelled."""
    spans = [(run.start, run.stop) for run in said.values]
    spans += [(failure.item, failure.item + 1) for failure in said.failures]
    spans += [(part.start, part.stop) for part in said.released]
    for start, stop in spans:
        for part in chunk.remaining.intersection(start, stop):
            job.cancelled.add(part.start, part.stop)
            chunk.remaining.remove(part.start, part.stop)


def _commit(state: State, job: Job, chunk: Chunk, said: ChunkReport, now: Now, out: Out) -> None:
    taken = 0
    for run in said.values:
        taken += _commit_values(job, chunk, run, out)
    shortened = False
    failed = 0
    for failure in said.failures:
        if failure.item in chunk.remaining:
            failed += 1
            chunk.remaining.remove(failure.item, failure.item + 1)
            shortened = _on_failure(state, job, chunk, failure, now, out) or shortened
    for given in said.released:
        parts = chunk.remaining.intersection(given.start, given.stop)
        if parts:
            chunk.remaining.subtract(parts)
            return_to_pending(state, job, parts)
            shortened = True
    tally = state.tally(job.task)
    tally.items_done += taken
    tally.busy_s += said.busy_s
    if taken + failed:
        job.time.observe(taken + failed, said.busy_s)
        state.times.setdefault(job.task, ItemTime()).observe(taken + failed, said.busy_s)
    if shortened and chunk.remaining:
        out.append(ShortenChunk(chunk.fence, chunk.remaining.bounds))
    if any(failure.kind is FailureKind.UNFIT for failure in said.failures):
        stop_if_no_node_is_left(state, job, now, out)
    stop_if_hopeless(state, job, now, out)


def _commit_values(job: Job, chunk: Chunk, run: ValueRun, out: Out) -> int:
    """What is reported and still remains of the fence is taken, and nothing else."""
    slices = tuple(chunk.remaining.intersection(run.start, run.stop))
    if not slices:
        return 0
    for part in slices:
        chunk.remaining.remove(part.start, part.stop)
        job.done.add(part.start, part.stop)
        job.forget_attempts(part.start, part.stop)
        job.forget_losses(part.start, part.stop)
    out.append(PutValues(job.no, run.start, run.stop - run.start, run.block, slices))
    return sum(part.length for part in slices)


def _history(state: State, job: Job, chunk: Chunk, failure: ItemFailure, now: Now) -> PutFailure:
    node = state.nodes[chunk.node].name
    return failure_record(job, failure, job.attempts_of(failure.item) + 1, node, now, final=False)


def _on_failure(state: State, job: Job, chunk: Chunk, failure: ItemFailure, now: Now, out: Out) -> bool:
    """Returns whether the item left the fence without an outcome."""
    item = failure.item
    if failure.kind is FailureKind.UNFIT and not job.stream:
        return on_unfit(state, job, chunk, failure, now, out)
    decision = decide_retry(job.options, failure, job.attempts_of(item), job.no)
    node = state.nodes[chunk.node].name
    if isinstance(decision, Quarantine):
        quarantine(state, job, failure, decision.attempts, node, now, out)
        return False
    out.append(failure_record(job, failure, max(1, decision.attempts), node, now, final=False))
    job.forget_attempts(item, item + 1)
    state.tally(job.task).items_retried += 1
    job.retried += 1
    if decision.attempts:
        job.attempts.setdefault(decision.attempts, RangeSet()).add(item, item + 1)
    if decision.alone:
        job.suspects.add(item, item + 1)
    wait_s = 0.0
    if decision.delay_s > 0:
        due = due_at(now.mono, decision.delay_s)
        delay(state, job, item, item + 1, due)
        wait_s = due - now.mono
    else:
        return_to_pending(state, job, [(item, item + 1)])
    out.append(PutAttempt(job.no, item, decision.attempts, now.wall + wait_s, decision.alone, wait_s))
    return True
