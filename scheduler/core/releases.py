"""Asks busy nodes for work back that waits there while other nodes idle, so that all slots finish together.

What a node has not started of a chunk comes back by the one way there is (`give_up`, then `released`), and is placed
again in smaller pieces. Looked at only when something idles: while there is pending work, placing it is enough.
"""

from __future__ import annotations

from windrow.common.words import Now
from windrow.scheduler.core.commands import TellNode
from windrow.scheduler.core.machines import ChunkState
from windrow.scheduler.core.planning import ITEM_OVERHEAD_S, is_able, known_time
from windrow.scheduler.core.state import Chunk, Node, Out, State
from windrow.scheduler.core.twins import place_twins

LOOK_INTERVAL_S = 0.05
WORTH_S = 0.02
"""Less estimated work than this is not worth the way back and forth, unless it stands still."""
STILL_S = 0.25
"""A chunk that is here for so long has outlasted its estimate."""


def ask_for_waiting(state: State, now: Now, out: Out) -> None:
    """One chunk for each idle slot, from the nodes that have most waiting."""
    if now.mono < state.releases_at or not state.broker_up:
        return
    state.releases_at = now.mono + LOOK_INTERVAL_S
    nodes = [node for node in state.nodes.values() if node.placeable]
    idle = [node for node in nodes if node.takes_now(now.mono) and _free_slots(node)]
    if not idle:
        return
    # Most waiting first; of a node that idles itself nothing is found to wait.
    free = sum(map(_free_slots, idle))
    for node in sorted(nodes, key=lambda node: -_waiting_items(node)):
        if free <= 0:
            return
        chunk = _find_waiting(state, node, idle, now)
        if chunk is None:
            continue
        free -= 1
        if not chunk.wanted_back:
            chunk.wanted_back = True
            out.append(TellNode(node.id))
    place_twins(state, idle, now, out)


def _free_slots(node: Node) -> int:
    """Slots that have nothing to do, as far as the scheduler knows."""
    if len(node.chunks) >= node.slots:
        return 0
    return max(0, node.slots - sum(len(chunk.remaining) for chunk in node.chunks.values()))


def _waiting_items(node: Node) -> int:
    return sum(len(chunk.remaining) for chunk in node.chunks.values()) - node.slots


def _find_waiting(state: State, node: Node, idle: list[Node], now: Now) -> Chunk | None:
    """The chunk that the node will come to last, if some of it waits, and an idle node could do it.

    One that is asked for already counts: a node is asked for one at a time.
    """
    if _waiting_items(node) <= 0:
        return None
    for chunk in reversed(node.chunks.values()):
        if chunk.wanted_back:
            return chunk
        if chunk.state is not ChunkState.LEASED:
            continue
        job = state.jobs[chunk.job]
        if job.winding_down or job.pending or not any(is_able(each, job) for each in idle):
            continue
        work_s = len(chunk.remaining) * max(known_time(state, job).item_s, ITEM_OVERHEAD_S)
        if work_s >= WORTH_S or now.mono - chunk.placed_at > STILL_S:
            return chunk
    return None
