"""Answers to those who only want to know: jobs, results, failures, nodes, health. Asked after the turn's commit."""

from __future__ import annotations

from windrow.common.errors import NotFound, WindrowError
from windrow.common.limits import JOB_ITEMS_MAX, PAGE_BYTES_MAX
from windrow.common.messages import (
    Explained,
    ExplainJob,
    FindJob,
    Health,
    HealthInfo,
    JobInfo,
    Jobs,
    ListJobs,
    ListNodes,
    Nodes,
    Outcomes,
    ReadFailures,
    ReadHistory,
    ReadResults,
    Refused,
)
from windrow.common.texts import counted
from windrow.common.words import JobId, Now
from windrow.scheduler.core.explain import explain_item, explain_job, item_has_failed, item_is_done, seconds_left
from windrow.scheduler.core.info import job_info, node_info
from windrow.scheduler.engine import Engine
from windrow.scheduler.ports import Page, Store

Question = FindJob | ListJobs | ReadResults | ReadFailures | ReadHistory | ExplainJob | ListNodes | Health
Reply = JobInfo | Jobs | Outcomes | Explained | Nodes | HealthInfo | Refused
_PREFIXES_SHOWN = 5


class Reader:
    """Reads the core for what is live and the store for what has ended."""

    def __init__(self, engine: Engine, store: Store, version: str, started_mono: float) -> None:
        self._engine = engine
        self._store = store
        self._version = version
        self._started_mono = started_mono
        self.messages_refused = 0

    def answer(self, question: Question, now: Now) -> Reply:
        try:
            return self._answer(question, now)
        except WindrowError as error:
            return Refused(error.code, str(error))

    def _answer(self, question: Question, now: Now) -> Reply:
        epoch = self._engine.state.epoch
        match question:
            case FindJob(job):
                return self.get_info(self._resolve(job))
            case ListJobs(limit, before, streams, state):
                listed = self._store.list_jobs(limit=limit, before=before, streams=streams, state=state)
                return Jobs(epoch, tuple(self._fresh(info) for info in listed))
            case ReadResults(job, start, limit):
                page = self._store.read_results(job, start, min(start + limit, JOB_ITEMS_MAX), PAGE_BYTES_MAX)
                return self._outcomes(job, page)
            case ReadFailures(job, start, limit):
                return self._outcomes(job, self._store.read_failures(job, start, limit))
            case ReadHistory(job, item):
                return self._outcomes(job, self._store.read_history(job, item))
            case ExplainJob(job, item):
                return self._explain(job, item, now)
            case ListNodes():
                nodes = sorted(self._engine.state.nodes.values(), key=lambda node: (node.name, node.id))
                return Nodes(epoch, tuple(node_info(node, now) for node in nodes))
            case Health():
                return self.health(now)

    def _outcomes(self, job: JobId, page: Page) -> Outcomes:
        sequence = self._store.last_sequence(job)
        return Outcomes(self._engine.state.epoch, self.get_info(job), page.values, page.failures, page.next, sequence)

    def _explain(self, job_id: JobId, item: int | None, now: Now) -> Explained:
        state = self._engine.state
        info = self.get_info(job_id)
        if item is not None and item >= info.total:
            raise NotFound(f"job {job_id} has {counted(info.total, 'item', 'items')}: there is no item {item}")
        job = state.jobs.get(job_id)
        if job is None:
            why = f": {info.reason}" if info.reason else ""
            ended = f"the job is {info.state}{why}; {counted(info.done, 'item', 'items')} done, {info.failed} failed"
            of_item = () if item is None else (self._how_it_ended(info, item),)
            return Explained(state.epoch, info, (*of_item, ended), 0.0)
        if item is not None:
            return Explained(state.epoch, info, explain_item(state, job, item, now), seconds_left(state, job))
        reasons, left_s = explain_job(state, job, now)
        return Explained(state.epoch, info, reasons, left_s)

    def _how_it_ended(self, info: JobInfo, item: int) -> str:
        """Of an item of an ended job, which the core has forgotten."""
        page = self._store.read_results(info.id, item, item + 1, PAGE_BYTES_MAX)
        if page.values:
            return item_is_done(info.id, item)
        if page.failures:
            return item_has_failed(info.id, item)
        return f"item {item} was cancelled: {info.reason}"

    def health(self, now: Now) -> HealthInfo:
        state = self._engine.state
        trouble = self._store.check()
        return HealthInfo(
            epoch=state.epoch,
            cluster=state.cluster,
            version=self._version,
            dispatch=state.settings.dispatch,
            broker="ok" if state.broker_up else "bad",
            broker_detail=state.broker_detail,
            store="bad" if trouble else "ok",
            store_detail=trouble,
            uptime_s=now.mono - self._started_mono,
            jobs=len(state.jobs),
            chunks=len(state.chunks),
            messages_refused=self.messages_refused,
        )

    def get_info(self, job_id: JobId) -> JobInfo:
        job = self._engine.state.jobs.get(job_id)
        info = job_info(job) if job is not None else self._store.find_info(job_id)
        if info is None:
            raise NotFound(f"there is no job {job_id}; see `windrow jobs`")
        return info

    def _fresh(self, info: JobInfo) -> JobInfo:
        job = self._engine.state.jobs.get(info.id)
        return job_info(job) if job is not None else info

    def _resolve(self, named: str) -> JobId:
        if named == "last":
            newest = self._store.list_jobs(limit=1, before="", streams=False, state="")
            if not newest:
                raise NotFound("there is no job yet; `windrow submit` starts one")
            return newest[0].id
        found = self._store.find_job_ids(named, _PREFIXES_SHOWN) if named else []
        if named in found:
            return JobId(named)
        if not found:
            raise NotFound(f"there is no job {named!r}; see `windrow jobs`")
        if len(found) > 1:
            raise NotFound(f"{named!r} begins more than one job id: {', '.join(found)}; give more characters")
        return found[0]
