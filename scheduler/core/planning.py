"""Decides which range goes to which node, and how large it is. One step places all that credit allows."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

from windrow.common.limits import CHUNK_BYTES_MAX, CHUNK_ITEMS_MAX, FENCES_PER_NODE_MAX
from windrow.common.options import OnLost
from windrow.common.ranges import RangeSet
from windrow.common.words import Fence, JobState, NodeId, Now, Range
from windrow.scheduler.core.commands import Dispatch
from windrow.scheduler.core.jobs import carving_is_held
from windrow.scheduler.core.losses import FAIL_CHUNK_ITEMS_MAX, LOST_CHUNK_ITEMS_MAX
from windrow.scheduler.core.machines import ChunkState, JobTrigger
from windrow.scheduler.core.records import PutChunk
from windrow.scheduler.core.state import (
    Chunk,
    CoreSettings,
    ItemTime,
    Job,
    Node,
    Out,
    State,
    add_chunk,
    job_record,
    move_job,
    note_ready,
)

ITEM_OVERHEAD_S = 5e-7
"""Of any item, however short: decoding, calling, encoding, as measured."""
WATCHED_LOSSES = 2
"""Ranges that have cost so many nodes go out one to a node, in small pieces."""
GROWTH = 16
"""A chunk has at most so many times the items that have been measured."""


def plan(state: State, now: Now, out: Out) -> None:
    """Place chunks until nothing is pending or no node has credit: highest priority first, fair between equals."""
    state.plan_wanted = False
    if not state.ready or not state.broker_up:
        return
    lines = _Lines(state, now)
    heap = [(-job.options.priority, len(job.chunks), job.no) for job in (state.jobs[each] for each in state.ready)]
    heapq.heapify(heap)
    while heap and lines.credit:
        priority, _, no = heapq.heappop(heap)
        job = state.jobs[state.job_by_no[no]]
        able = lines.find_node(job)
        if able is None:
            continue
        carved = _carve(job, _wanted_items(state, job, lines.slots_for(job)))
        node = able if carved.losses < WATCHED_LOSSES else lines.find_quiet_node(job)
        if node is None:
            # Every node watches one such range already; its next report makes room. The job's other ranges wait too.
            continue
        _place(state, job, node, carved, now, out)
        lines.on_placed(node)
        if job.placeable:
            heapq.heappush(heap, (priority, len(job.chunks), no))


def has_credit(node: Node, settings: CoreSettings) -> bool:
    """One chunk ahead of each slot, or half a second of work ahead, whichever is more."""
    live = len(node.chunks)
    if live >= FENCES_PER_NODE_MAX:
        return False
    return live < 2 * node.slots or node.work_s < settings.ahead_s * node.slots


_Line = tuple[str, str, int]
"""Task, queue, and the job's number where it is alone."""


class _Lines:
    """The nodes that have credit, as seen during one step; for each (task, queue) a heap by how little they have."""

    def __init__(self, state: State, now: Now) -> None:
        self._settings = state.settings
        nodes = [node for node in state.nodes.values() if node.placeable]
        paused = [node.unsent_until for node in nodes if node.unsent_until > now.mono]
        if paused:
            state.plan_at = min(paused)
            nodes = [node for node in nodes if node.takes_now(now.mono)]
        self._nodes = {node.id: node for node in nodes}
        self.credit = {node.id for node in nodes if has_credit(node, state.settings)}
        self._heaps: dict[_Line, list[tuple[float, NodeId]]] = {}
        self._slots: dict[_Line, int] = {}

    def _heap(self, job: Job) -> list[tuple[float, NodeId]]:
        line = _line_of(job)
        heap = self._heaps.get(line)
        if heap is None:
            able = [node for node in self._nodes.values() if is_able(node, job)]
            self._slots[line] = sum(node.slots for node in able)
            heap = self._heaps[line] = [(_fullness(node), node.id) for node in able if node.id in self.credit]
            heapq.heapify(heap)
        return heap

    def slots_for(self, job: Job) -> int:
        return self._slots[_line_of(job)]

    def find_node(self, job: Job) -> Node | None:
        """The emptiest node that can run the job. Entries grow stale as nodes fill: those go back where they belong."""
        heap = self._heap(job)
        while heap:
            fullness, node_id = heap[0]
            if node_id not in self.credit:
                heapq.heappop(heap)
                continue
            node = self._nodes[node_id]
            if (actual := _fullness(node)) <= fullness:
                return node
            heapq.heapreplace(heap, (actual, node_id))
        return None

    def find_quiet_node(self, job: Job) -> Node | None:
        """The emptiest node that has no range under watch, so that the next loss is blamed on the right one."""
        able = [node for each in self.credit if is_able(node := self._nodes[each], job)]
        quiet = [node for node in able if all(chunk.losses < WATCHED_LOSSES for chunk in node.chunks.values())]
        return min(quiet, key=lambda node: (_fullness(node), node.id), default=None)

    def on_placed(self, node: Node) -> None:
        if not has_credit(node, self._settings):
            self.credit.discard(node.id)


def is_able(node: Node, job: Job) -> bool:
    """Serves the queue, offers the task, and is not left out."""
    return job.task in node.tasks and job.options.queue in node.queues and node.id not in job.unfit


def _line_of(job: Job) -> _Line:
    # A job that leaves nodes out has a line of its own.
    return job.task, job.options.queue, job.no if job.unfit else 0


def _fullness(node: Node) -> float:
    return len(node.chunks) / node.slots


def chunk_items(time: ItemTime, pending: int, slots: int, settings: CoreSettings) -> int:
    """How many items the next chunk gets: one second of work, grown from one item, tapering as the end comes near.

    Guided self-scheduling: a chunk takes at most half of an equal share of what is left, so that all slots finish
    together, but not so little that the cost of a chunk shows. Where nothing is measured it is one item.
    """
    item_s = max(time.item_s, ITEM_OVERHEAD_S)
    wanted = settings.chunk_target_s / item_s
    share = pending / (2 * max(1, slots))
    floor = settings.chunk_floor_s / item_s
    sized = min(wanted, max(share, floor), GROWTH * time.measured, CHUNK_ITEMS_MAX)
    return max(1, math.ceil(sized))


def _wanted_items(state: State, job: Job, slots: int) -> int:
    items = chunk_items(known_time(state, job), len(job.pending), slots, state.settings)
    return min(items, FAIL_CHUNK_ITEMS_MAX) if job.options.on_lost is OnLost.FAIL else items


def known_time(state: State, job: Job) -> ItemTime:
    """As measured in this job, or in any other job of the task."""
    return job.time if job.time.measured else state.times.get(job.task, job.time)


def _work_s(time: ItemTime, items: int, settings: CoreSettings) -> float:
    """What a chunk takes of its node's credit.

    Of items hardly measured little is known: their chunks are taken for long, so that a node is not flooded with
    small ones while the first of them tell how large they may be.
    """
    if items >= GROWTH * time.measured:
        return settings.chunk_target_s
    return items * max(time.item_s, ITEM_OVERHEAD_S)


@dataclass(frozen=True, slots=True)
class _Carved:
    """What goes into the next chunk."""

    start: int
    stop: int
    alone: bool
    """It is a suspect."""
    losses: int


def _place(state: State, job: Job, node: Node, carved: _Carved, now: Now, out: Out) -> None:
    time = known_time(state, job)
    start, stop = carved.start, carved.stop
    job.pending.remove(start, stop)
    state.counter += 1
    fence = Fence(state.epoch, state.counter)
    chunk = Chunk(
        fence=fence,
        job=job.id,
        node=node.id,
        start=start,
        stop=stop,
        remaining=RangeSet([(start, stop)]),
        state=ChunkState.PLACED,
        placed_at=now.mono,
        work_s=_work_s(time, stop - start, state.settings),
        losses=carved.losses,
    )
    add_chunk(state, job, chunk)
    first = job.state is JobState.PENDING
    move_job(job, JobTrigger.PLACE)
    if first:
        out.append(job_record(job))
    note_ready(state, job)
    attempts = tuple(
        (part.start, part.stop, number)
        for number, items in job.attempts.items()
        for part in items.intersection(start, stop)
    )
    lease_first = carved.losses > 0 or job.options.on_lost is OnLost.FAIL
    out.append(PutChunk(fence, job.no, start, stop, node.id))
    out.append(Dispatch(fence, node.id, job.id, start, stop, attempts, carved.alone, lease_first))


def _carve(job: Job, items: int) -> _Carved:
    """The next range of a job: uniform in losses, and a suspect always by itself."""
    first = job.pending.first
    if carving_is_held(job):
        first = _first_retry(job) or first
    start = first.start
    losses = job.losses_of(start)
    if start in job.suspects:
        return _Carved(start, start + 1, alone=True, losses=losses)
    if losses >= WATCHED_LOSSES:
        items = min(items, LOST_CHUNK_ITEMS_MAX.get(losses, 1))
    stop = min(first.stop, start + items)
    if losses:
        stop = job.losses[losses].intersection(start, stop)[0].stop
    for apart in (job.suspects, *(lost for number, lost in job.losses.items() if number != losses)):
        for part in apart.intersection(start, stop)[:1]:
            stop = part.start
    return _Carved(start, job.inputs.clip(start, stop, CHUNK_BYTES_MAX), alone=False, losses=losses)


def _first_retry(job: Job) -> Range | None:
    for items in job.attempts.values():
        for part in items:
            for retry in job.pending.intersection(part.start, part.stop):
                return retry
    return None
