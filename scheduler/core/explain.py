"""Says why a job or an item is not done, from the state alone: for the one who waits, and the one who is woken."""

from __future__ import annotations

from collections import Counter

from windrow.common.texts import counted
from windrow.common.words import COMMAND_TASK, JobId, JobState, Now
from windrow.scheduler.core.jobs import ALLOW_COMMANDS
from windrow.scheduler.core.machines import ChunkState, NodeState
from windrow.scheduler.core.planning import ITEM_OVERHEAD_S, has_credit, is_able
from windrow.scheduler.core.state import Chunk, Job, Node, State


def explain_job(state: State, job: Job, now: Now) -> tuple[tuple[str, ...], float | None]:
    """The reasons, the weightiest first, and an estimate of the seconds left (None where nothing is known)."""
    if job.terminal:
        return (_ended(job),), 0.0
    reasons = _holding_back(state, job)
    reasons += [_live(job)] if job.chunks else []
    if job.delayed:
        wait_s = max(0.0, min(job.delayed) - now.mono)
        items = sum(len(each) for each in job.delayed.values())
        what = counted(items, "item is delayed or backs off", "items are delayed or back off")
        reasons.append(f"{what}; the next is due in {wait_s:.1f} s")
    if job.pending and not reasons:
        what = counted(len(job.pending), "item is", "items are")
        reasons.append(f"{what} pending and will be placed as soon as a slot is free")
    if job.quarantined:
        what = counted(len(job.quarantined), "item has", "items have")
        reasons.append(f"{what} failed; see `windrow failures {job.id}`")
    if job.open:
        reasons.append("the job is open: whoever started it may still add items")
    reasons += [line for line in _left_out_before(state, job) if line not in reasons]
    return tuple(reasons), seconds_left(state, job)


def explain_item(state: State, job: Job, item: int, now: Now) -> tuple[str, ...]:
    """The reasons for one item, which is below the job's total."""
    if item in job.done:
        return (item_is_done(job.id, item),)
    if item in job.quarantined:
        return (item_has_failed(job.id, item),)
    if item in job.cancelled:
        return (f"item {item} was cancelled: {job.reason}",)
    for chunk in job.chunks.values():
        if item in chunk.remaining:
            return (_where(state, chunk, item),)
    used = job.attempts_of(item)
    before = f" after {used} failed attempts" if used else ""
    for due, items in job.delayed.items():
        if item in items:
            return (f"item {item} is delayed{before}: due in {max(0.0, due - now.mono):.1f} s",)
    suspect = " It was running when a worker crashed, so it will run alone." if item in job.suspects else ""
    return (f"item {item} is pending{before}.{suspect}", *_holding_back(state, job))


def item_is_done(job: JobId, item: int) -> str:
    return f"item {item} is done; see `windrow results {job}`"


def item_has_failed(job: JobId, item: int) -> str:
    return f"item {item} has failed and rests in quarantine; `windrow retry {job}/{item}` runs it again"


def _ended(job: Job) -> str:
    why = f": {job.reason}" if job.reason else ""
    return f"the job is {job.state}{why}; {counted(len(job.done), 'item', 'items')} done, {len(job.quarantined)} failed"


def _holding_back(state: State, job: Job) -> list[str]:
    """What keeps pending items from being placed."""
    if job.winding_down:
        left = counted(len(job.chunks), "chunk is", "chunks are")
        return [f"the job is {job.state} ({job.reason}); {left} still at nodes"]
    if job.state is JobState.PAUSED:
        return [f"the job is paused; `windrow resume {job.id}` lets it go on"]
    if job.waits_for:
        return [f"it waits for job {each} to be done" for each in sorted(job.waits_for)]
    if not job.pending:
        return []
    if not state.broker_up:
        return [f"the broker is down: {state.broker_detail}"]
    return _no_node(state, job)


def _no_node(state: State, job: Job) -> list[str]:
    queue = job.options.queue
    alive = [node for node in state.nodes.values() if node.state is NodeState.ALIVE]
    serving = [node for node in alive if queue in node.queues]
    offering = [node for node in serving if job.task in node.tasks]
    fit = [node for node in offering if node.id not in job.unfit]
    working = [node for node in fit if node.placeable]
    if not alive:
        return ["no node is alive; start one with `windrow node`"]
    if not serving:
        return [f"no live node serves the queue {queue!r}; start one with --queues {queue}"]
    if not offering:
        errors = [f"{node.name}: {each.source}: {each.error}" for node in serving for each in node.errors]
        told = f"; import errors: {'; '.join(errors)}" if errors else ""
        if job.task == COMMAND_TASK:
            return [f"no node of queue {queue!r} runs commands; {ALLOW_COMMANDS}{told}"]
        return [f"no node of queue {queue!r} offers the task {job.task!r}; start one with --tasks{told}"]
    if not fit:
        return _left_out(state, job)
    if not working:
        return [f"every node that could run it is draining: {_names(fit)}", *_left_out(state, job)]
    if not any(has_credit(node, state.settings) for node in working):
        before = Counter(state.jobs[chunk.job].name for node in working for chunk in node.chunks.values())
        ahead = ", ".join(f"{name} ({counted(chunks, 'chunk', 'chunks')})" for name, chunks in before.most_common(3))
        return [f"all slots of {_names(working)} are taken by {ahead}", *_left_out(state, job)]
    return _left_out(state, job)


def _left_out(state: State, job: Job) -> list[str]:
    named = sorted((state.nodes[node].name, why) for node, why in job.unfit.items() if node in state.nodes)
    return [f"node {name} is left out, because the task cannot be done there: {why}" for name, why in named[:5]]


def _left_out_before(state: State, job: Job) -> list[str]:
    """Of the job and of all jobs that it waits for, directly or not."""
    lines: list[str] = []
    todo, seen = [job.id], {job.id}
    while todo:
        one = state.jobs.get(todo.pop())
        if one is None:
            continue
        lines += [line for line in _left_out(state, one) if line not in lines]
        more = sorted(one.waits_for - seen)
        todo += more
        seen.update(more)
    return lines


def _names(nodes: list[Node]) -> str:
    names = sorted(node.name for node in nodes)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _live(job: Job) -> str:
    live = [chunk for chunk in job.chunks.values() if chunk.counts]
    leased = sum(len(chunk.remaining) for chunk in live if chunk.state is ChunkState.LEASED)
    placed = sum(len(chunk.remaining) for chunk in live) - leased
    running = counted(leased, "item is running or next at its node", "items are running or next at their nodes")
    return f"{running}, {counted(placed, 'is', 'are')} on the way there"


def _where(state: State, chunk: Chunk, item: int) -> str:
    node = state.nodes[chunk.node].name
    if chunk.state is ChunkState.LEASED:
        return f"item {item} is at node {node} (fence {chunk.fence}), running or next in line"
    return f"item {item} is on its way to node {node} (fence {chunk.fence})"


def seconds_left(state: State, job: Job) -> float | None:
    """What is left, at the measured time of an item, over all slots that can run it."""
    if not job.time.measured:
        return None
    able = [node for node in state.nodes.values() if node.placeable and is_able(node, job)]
    slots = sum(node.slots for node in able)
    left = job.total - len(job.done) - len(job.quarantined) - len(job.cancelled)
    return left * max(job.time.item_s, ITEM_OVERHEAD_S) / slots if slots else None
