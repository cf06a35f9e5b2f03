"""What clients ask of jobs: start, append, close, cancel, retry; how a job ends, and frees those that wait for it."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterable

from windrow.common.limits import APPEND_BYTES_MAX, APPEND_ITEMS_MAX, BOUNDARIES_MAX, ITEM_BYTES_MAX, JOB_ITEMS_MAX
from windrow.common.messages import (
    Accepted,
    Append,
    Appended,
    CancelJob,
    CloseJob,
    NumberItems,
    PauseJob,
    Refused,
    RetryJob,
    Started,
    StartJob,
)
from windrow.common.options import Options, decide, over
from windrow.common.ranges import RangeSet
from windrow.common.texts import counted
from windrow.common.words import COMMAND_TASK, JobId, JobState, Now, Range
from windrow.scheduler.core.commands import JobEnded
from windrow.scheduler.core.inputs import InputBlock
from windrow.scheduler.core.machines import JobTrigger, NodeState
from windrow.scheduler.core.records import DropAttempts, PutInput, PutJob, ReopenItems, ShortenChunk
from windrow.scheduler.core.state import (
    Job,
    Out,
    State,
    delay,
    due_at,
    forget_delayed,
    job_record,
    move_job,
    note_ready,
)

_DIGEST_BYTES = 16
ALLOW_COMMANDS = "start one with --allow-commands, or set node.allow_commands"


def on_start_job(state: State, asked: StartJob, now: Now, out: Out) -> Started | Refused:
    known = find_started(state, asked)
    if known is not None:
        return _started_before(state, known, asked)
    refusal = _refusal(state, asked)
    if refusal is not None:
        return refusal
    offered = _offered_options(state, asked.task)
    job = Job(
        no=state.last_job_no + 1,
        id=asked.job,
        task=asked.task,
        name=asked.name or asked.task,
        options=decide(over(asked.options, offered)),
        stream=asked.stream,
        key=asked.key,
        after=asked.after,
        numbers=asked.numbers,
        total=number_count(asked.numbers) if asked.numbers is not None else 0,
        open=asked.numbers is None,
        state=JobState.PENDING,
        created_wall=now.wall,
        appended_at=now.mono,
    )
    state.last_job_no = job.no
    enter_job(state, job)
    for dependency in asked.after:
        if _end_of(state, dependency) is not JobState.DONE:
            job.waits_for.add(dependency)
            state.dependents.setdefault(dependency, []).append(job.id)
    out.append(
        PutJob(
            no=job.no,
            id=job.id,
            task=job.task,
            name=job.name,
            options=job.options,
            stream=job.stream,
            key=job.key,
            after=job.after,
            numbers=job.numbers,
            total=job.total,
            open=job.open,
            state=job.state,
            created_wall=job.created_wall,
        )
    )
    _make_pending(state, job, 0, job.total, job.options.delay_s, now)
    finish_if_complete(state, job, now, out)
    return Started(state.epoch, job.id, existing=False, total=job.total, note=_placement_note(state, job))


def find_started(state: State, asked: StartJob) -> Job | None:
    """The job that this very request, or an earlier one with its key, has started."""
    job = state.jobs.get(asked.job)
    if job is None and asked.key is not None and asked.key in state.keys:
        job = state.jobs[state.keys[asked.key]]
    return job


def _started_before(state: State, job: Job, asked: StartJob) -> Started | Refused:
    same = job.task == asked.task and job.numbers == asked.numbers and job.stream == asked.stream
    if not same:
        if asked.key is not None and job.key == asked.key:
            return Refused("key_conflict", f"job {job.id} has the key {asked.key!r} and another task or other items")
        return Refused("usage", f"job {job.id} exists and is another one: draw a new id")
    return Started(state.epoch, job.id, existing=True, total=job.total)


def _refusal(state: State, asked: StartJob) -> Refused | None:
    if not asked.job or not asked.task:
        return Refused("usage", "a job needs an id and the name of a task")
    if asked.numbers is not None and (asked.numbers.step == 0 or number_count(asked.numbers) > JOB_ITEMS_MAX):
        return Refused("usage", f"a job has at most {JOB_ITEMS_MAX} items, and a range a step other than 0")
    for dependency in asked.after:
        end = _end_of(state, dependency)
        if end is None:
            return Refused("not_found", f"there is no job {dependency} to wait for")
        if end in (JobState.FAILED, JobState.CANCELLED):
            return Refused("usage", f"job {dependency}, which this one would wait for, has {end}")
    return _task_refusal(state, asked)


def _end_of(state: State, dependency: JobId) -> JobState | None:
    """How a job stands, also one that has ended and is in the core until the next tick; None: there is none."""
    waited = state.jobs.get(dependency)
    return waited.state if waited is not None else state.ends_known.get(dependency)


def _task_refusal(state: State, asked: StartJob) -> Refused | None:
    """Refused where live nodes serve the queue and none of them offers the task."""
    queue = decide(over(asked.options, _offered_options(state, asked.task))).queue
    serving = [node for node in state.nodes.values() if node.state is NodeState.ALIVE and queue in node.queues]
    if not serving or any(asked.task in node.tasks for node in serving):
        return None
    if asked.task == COMMAND_TASK:
        return Refused("unknown_task", f"no node of queue {queue!r} runs commands; {ALLOW_COMMANDS}")
    offered = sorted({name for node in serving for name in node.tasks})
    near = difflib.get_close_matches(asked.task, offered, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}?" if near else "see `windrow nodes`; start a node with --tasks"
    return Refused("unknown_task", f"no node of queue {queue!r} offers the task {asked.task!r}; {hint}")


def _offered_options(state: State, task: str) -> Options:
    return next((node.tasks[task].options for node in state.nodes.values() if task in node.tasks), Options())


def _placement_note(state: State, job: Job) -> str:
    if any(job.options.queue in node.queues for node in state.nodes.values() if node.state is NodeState.ALIVE):
        return ""
    return f"no live node serves the queue {job.options.queue!r}: the job waits for one"


def number_count(numbers: NumberItems) -> int:
    """As many as Python's range has, with a step other than 0; not by len(), which cannot say more than 2^63."""
    return max(0, -((numbers.start - numbers.stop) // numbers.step))


def enter_job(state: State, job: Job) -> None:
    """Make the job known under its id, number and key."""
    state.jobs[job.id] = job
    state.job_by_no[job.no] = job.id
    if job.key is not None:
        state.keys[job.key] = job.id


def forget_job(state: State, job: Job) -> None:
    """A terminal job leaves the core; the store keeps it."""
    del state.jobs[job.id], state.job_by_no[job.no]
    if job.key is not None:
        state.keys.pop(job.key, None)


def _make_pending(state: State, job: Job, start: int, stop: int, delay_s: float, now: Now) -> float | None:
    """New items are pending, or delayed for the time that is returned; none at all wait for nothing."""
    if delay_s > 0 and start < stop:
        due = due_at(now.mono, delay_s)
        delay(state, job, start, stop, due)
        return due - now.mono
    job.pending.add(start, stop)
    note_ready(state, job)
    return None


def on_append(state: State, asked: Append, now: Now, out: Out) -> Appended | Refused:
    job = state.jobs.get(asked.job)
    if job is None:
        return Refused("not_found", f"there is no job {asked.job} to append to")
    item_bytes = len(asked.block) - 4 * (asked.count + 2)
    if asked.count > APPEND_ITEMS_MAX or item_bytes > max(APPEND_BYTES_MAX, ITEM_BYTES_MAX):
        # A block is never cut by bytes: a larger one would make chunk messages that cannot be sent, time and again.
        limits = f"at most {APPEND_ITEMS_MAX} items or {APPEND_BYTES_MAX} bytes travel in one"
        return Refused("item_refused", f"an append of {asked.count} items with {item_bytes} bytes: {limits}")
    digest = hashlib.blake2b(asked.block, digest_size=_DIGEST_BYTES).digest()
    stop = asked.first + asked.count
    if stop <= job.total:
        return _appended_before(state, job, asked, digest)
    if asked.first != job.total:
        return Refused(
            "usage", f"job {job.id} has {job.total} items: the next append begins there, not at {asked.first}"
        )
    if not job.open:
        code = "key_conflict" if job.key is not None else "usage"
        return Refused(code, f"job {job.id} is closed: it takes no more items")
    if stop > JOB_ITEMS_MAX:
        return Refused("usage", f"a job has at most {JOB_ITEMS_MAX} items")
    job.inputs.add(InputBlock(asked.first, asked.count, len(asked.block), digest))
    job.total = stop
    job.appended_at = now.mono
    wait_s = _make_pending(state, job, asked.first, stop, asked.delay_s or job.options.delay_s, now)
    due_wall = None if wait_s is None else now.wall + wait_s
    out.append(PutInput(job.no, asked.first, asked.count, asked.block, digest, due_wall, wait_s))
    out.append(job_record(job))
    if job.stream:
        job.inputs.forget_below(job.done.first.stop if job.done and job.done.first.start == 0 else 0)
    return Appended(state.epoch, job.total)


def _appended_before(state: State, job: Job, asked: Append, digest: bytes) -> Appended | Refused:
    block = job.inputs.find(asked.first)
    if block is not None and (block.count, block.digest) == (asked.count, digest):
        return Appended(state.epoch, job.total)
    code = "key_conflict" if job.key is not None else "usage"
    what = f"items {asked.first}:{asked.first + asked.count} of job {job.id} are there already and differ"
    return Refused(code, f"{what} (key {job.key!r})" if job.key is not None else what)


def on_close_job(state: State, asked: CloseJob, now: Now, out: Out) -> Accepted | Refused:
    job = state.jobs.get(asked.job)
    if job is None:
        return Refused("not_found", f"there is no job {asked.job} to close")
    if asked.total != job.total:
        code = "key_conflict" if job.key is not None else "usage"
        return Refused(code, f"job {job.id} has {job.total} items, not {asked.total}")
    if job.open:
        job.open = False
        out.append(job_record(job))
        finish_if_complete(state, job, now, out)
    return Accepted(state.epoch, _placement_note(state, job) if not job.stream else "")


def on_cancel_job(state: State, asked: CancelJob, now: Now, out: Out) -> Accepted | Refused:
    job = state.jobs.get(asked.job)
    if job is None:
        return Refused("not_found", f"there is no job {asked.job}")
    if job.terminal:
        return Accepted(state.epoch, f"job {job.id} has ended already: it is {job.state}")
    if job.state is not JobState.CANCELLING:
        wind_down(state, job, JobTrigger.CANCEL, asked.reason or "cancelled by hand", now, out)
    return Accepted(state.epoch)


def wind_down(state: State, job: Job, trigger: JobTrigger, reason: str, now: Now, out: Out) -> None:
    """Nothing returns to pending any more; live fences commit nothing, and the job ends when they are gone."""
    move_job(job, trigger)
    job.reason = reason
    job.open = False
    job.waits_for.clear()
    job.cancelled.update(job.pending)
    job.pending.clear()
    for items in job.delayed.values():
        job.cancelled.update(items)
    forget_delayed(state, job)
    note_ready(state, job)
    out.append(job_record(job))
    finish_if_complete(state, job, now, out)


def on_retry_job(state: State, asked: RetryJob, now: Now, out: Out) -> Accepted | Refused:
    job = state.jobs.get(asked.job)
    if job is None:
        return Refused("not_found", f"there is no job {asked.job}")
    wanted: Iterable[Range] = asked.items or list(job.quarantined)
    # A set, for ranges that were asked for may overlap, and each item is put back once.
    ranges = tuple(RangeSet(p for each in wanted for p in job.quarantined.intersection(each.start, each.stop)))
    if not ranges:
        return Refused("usage", f"job {job.id} has no failed items {'among these ' if asked.items else ''}to retry")
    if job.winding_down or job.state is JobState.CANCELLED:
        return Refused("usage", f"job {job.id} was cancelled: start it anew")
    if job.terminal:
        move_job(job, JobTrigger.RETRY)
        job.finished_wall = None
        job.reason = ""
    # Where max_failures stopped the job, what it kept from running runs now.
    job.pending.update(job.cancelled)
    job.cancelled.clear()
    job.generation += 1
    job.unfit.clear()
    job.quarantined.subtract(ranges)
    job.pending.update(ranges)
    note_ready(state, job)
    out.append(ReopenItems(job.no, ranges))
    # A live chunk's row still covers what was quarantined under it: without an outcome it would be the chunk's again.
    for chunk in job.chunks.values():
        if any(part.start < chunk.stop and chunk.start < part.stop for part in ranges):
            out.append(ShortenChunk(chunk.fence, chunk.remaining.bounds))
    out.append(job_record(job))
    return Accepted(state.epoch, f"{counted(sum(part.length for part in ranges), 'item', 'items')} will run again")


def on_pause_job(state: State, asked: PauseJob, out: Out) -> Accepted | Refused:
    """Directives take back what has not started; what runs goes on and is committed."""
    job = state.jobs.get(asked.job)
    if job is None:
        return Refused("not_found", f"there is no job {asked.job}")
    if job.terminal or job.winding_down:
        return Refused(
            "usage", f"job {job.id} is {job.state}: there is nothing to {'resume' if asked.resume else 'pause'}"
        )
    if asked.resume == (job.state is JobState.PAUSED):
        move_job(job, JobTrigger.RESUME if asked.resume else JobTrigger.PAUSE)
        if asked.resume and job.chunks:
            move_job(job, JobTrigger.PLACE)  # Before the pause; perhaps there is nothing more to place.
        note_ready(state, job)
        out.append(job_record(job))
    return Accepted(state.epoch, f"job {job.id} is {job.state}")


def finish_if_complete(state: State, job: Job, now: Now, out: Out) -> None:
    """End the job where its last index is terminal, and free or cancel the jobs that wait for it."""
    todo = [job]
    while todo:
        ending = todo.pop()
        if ending.terminal or ending.open or ending.pending or ending.delayed or ending.chunks or ending.waits_for:
            continue
        if ending.winding_down:
            move_job(ending, JobTrigger.RESOLVE)
        else:
            move_job(ending, JobTrigger.FAIL if ending.quarantined else JobTrigger.SUCCEED)
        ending.finished_wall = now.wall
        out.extend((job_record(ending), DropAttempts(ending.no), JobEnded(ending.id)))
        state.leaving_jobs.append(ending.id)
        todo.extend(_release_dependents(state, ending, now, out))


def _release_dependents(state: State, ended: Job, now: Now, out: Out) -> list[Job]:
    """Those that wait for this job may go on, or are cancelled where it has not succeeded. Returns all of them."""
    touched: list[Job] = []
    for waiting_id in state.dependents.pop(ended.id, ()):
        waiting = state.jobs.get(waiting_id)
        if waiting is None or ended.id not in waiting.waits_for:
            continue
        if ended.state is JobState.DONE:
            waiting.waits_for.discard(ended.id)
            note_ready(state, waiting)
        else:
            move_job(waiting, JobTrigger.CANCEL)
            waiting.reason = f"job {ended.id} ({ended.name}), which it waits for, has {ended.state}"
            waiting.open = False
            waiting.waits_for.clear()
            waiting.cancelled = RangeSet([(0, waiting.total)])
            waiting.pending.clear()
            forget_delayed(state, waiting)
        touched.append(waiting)
    return touched


def carving_is_held(job: Job) -> bool:
    """Beyond BOUNDARIES_MAX no fresh range is carved: first the retries, so that the sets grow together again."""
    return job.boundary_count > BOUNDARIES_MAX
