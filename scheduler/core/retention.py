"""How long is kept what has ended, and how it is let go of: jobs, whole and a few at a time, and nodes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from windrow.common.words import JobId, JobState, Now
from windrow.scheduler.core.commands import CloseNode
from windrow.scheduler.core.jobs import finish_if_complete
from windrow.scheduler.core.machines import NodeState
from windrow.scheduler.core.records import DropNode, EndedJob, RemoveJob, SweepRemoved
from windrow.scheduler.core.state import CoreSettings, Job, Out, State, job_record

STEP_JOBS = 50
"""Jobs that one step removes."""
STEP_ROWS = 500
"""Rows that one step deletes: a few milliseconds of a turn."""
STEP_EVERY_S = 0.1
"""From one step to the next while there is something to delete."""
LOOK_EVERY_S = 5.0
"""From one look to the next while there is nothing."""
STREAM_OPEN_S_MAX = 86_400.0
"""A client closes its streams after an hour, when it makes the next call: one so old has lost its client."""
STREAM_SILENT_S = 7_200.0
"""And nothing was appended for so long: of wall clocks that jump nobody is the victim."""

STEADY_S_MAX = 3_600.0
STEADY_SHARE = 1 / 24
"""Of the shortest time that anything is kept; so days stand for hours."""


@dataclass(slots=True)
class WallWatch:
    """Whether the wall clock can be believed to say what is old: for a while it has gone as the monotonic one does.

    A machine may come up with a wrong clock, or be set wrong by hand: what was removed by that cannot be had back.
    """

    steady_s: float
    """For so long it must have gone evenly, and a smaller step is none: an hour, and less where little is kept."""
    _last: Now | None = None
    _even_s: float = 0.0

    def is_steady(self, now: Now) -> bool:
        """To be asked again and again: what happened between two questions is seen by the second."""
        last, self._last = self._last, now
        if last is None or abs(_ahead_s(now) - _ahead_s(last)) > self.steady_s:
            self._even_s = 0.0
        else:
            # While the scheduler was stopped nobody could read what will be removed.
            self._even_s += min(now.mono - last.mono, 2 * LOOK_EVERY_S)
        return self._even_s >= self.steady_s


def _ahead_s(now: Now) -> float:
    return now.wall - now.mono


def wall_watch(settings: CoreSettings) -> WallWatch:
    kept = [settings.results_kept_s, settings.failures_kept_s, settings.nodes_kept_s]
    return WallWatch(min([STEADY_S_MAX, *(seconds * STEADY_SHARE for seconds in kept if seconds is not None)]))


def look_limit(state: State) -> int:
    """How many ended jobs are looked at in one step, of each state, so that not all of them may have to stay."""
    return STEP_JOBS + len(_needed(state)) + 1


def _needed(state: State) -> set[JobId]:
    """Those that a live job comes after."""
    return {dependency for job in state.jobs.values() for dependency in job.after}


def kept_since(settings: CoreSettings, now: Now) -> dict[JobState, float]:
    """State → jobs that ended in it before this instant (wall) are not kept; a state without one is kept for ever."""
    found: dict[JobState, float] = {}
    if settings.results_kept_s is not None:
        found[JobState.DONE] = found[JobState.CANCELLED] = now.wall - settings.results_kept_s
    if settings.failures_kept_s is not None:
        found[JobState.FAILED] = now.wall - settings.failures_kept_s
    return found


def on_ended_seen(
    state: State, ended: Iterable[EndedJob], now: Now, out: Out, *, leftovers: bool, steady: bool
) -> None:
    """Remove what is not kept any more. What lives, or has a live job after it, stays."""
    since = kept_since(state.settings, now)
    over = [job for job in ended if job.state in since and job.finished_wall < since[job.state]]
    if steady:
        needed = _needed(state)
        # The newest stays until there is a newer one: numbers of jobs go on from the highest in the store.
        going = [
            RemoveJob(job.no, job.id)
            for job in over
            if job.id not in state.jobs and job.id not in needed and job.no != state.last_job_no
        ]
        out.extend(going[:STEP_JOBS])
        leftovers = leftovers or bool(going)
    if leftovers:
        out.append(SweepRemoved(STEP_ROWS))
    if steady:
        _forget_nodes(state, now, out)
    for stream in [job for job in state.jobs.values() if _is_abandoned(job, now)]:
        stream.open = False
        out.append(job_record(stream))
        finish_if_complete(state, stream, now, out)


def _forget_nodes(state: State, now: Now, out: Out) -> None:
    """Those long lost or gone. One that comes back all the same joins as a new one.

    That a node is drained is an administrator's word, which must outlast its absence. While the broker is away
    nothing is forgotten: the queue would stay.
    """
    kept_s = state.settings.nodes_kept_s
    if kept_s is None or not state.broker_up:
        return
    for node in list(state.nodes.values()):
        away = node.state in (NodeState.LOST, NodeState.GONE)
        if away and not node.drained and now.wall - node.seen_wall > kept_s:
            del state.nodes[node.id]
            out.append(DropNode(node.id))
            out.append(CloseNode(node.id))


def _is_abandoned(job: Job, now: Now) -> bool:
    """A stream whose client was killed: it would be open for ever."""
    return (
        job.stream
        and job.open
        and now.wall - job.created_wall > STREAM_OPEN_S_MAX
        and now.mono - job.appended_at > STREAM_SILENT_S
        and not (job.pending or job.delayed or job.chunks)
    )
