"""The core's one door: `apply(state, event, now)` changes the state and returns what is to be done about it."""

from __future__ import annotations

from windrow.common.messages import (
    Accepted,
    Append,
    CancelJob,
    CloseJob,
    DrainNode,
    NodeBye,
    NodeHello,
    PauseJob,
    Refused,
    Report,
    RetryJob,
    StartJob,
)
from windrow.common.words import Now
from windrow.scheduler.core.commands import Answer, ChangeAnswer, Command
from windrow.scheduler.core.events import (
    Asked,
    BrokerChanged,
    Change,
    ClockGap,
    DependencyKnown,
    EndedSeen,
    Event,
    QueueSeen,
    Recalled,
    Sent,
    Tick,
    Unsent,
)
from windrow.scheduler.core.jobs import (
    on_append,
    on_cancel_job,
    on_close_job,
    on_pause_job,
    on_retry_job,
    on_start_job,
)
from windrow.scheduler.core.leases import on_clock_gap, on_queue_seen, on_sent, on_time, on_unsent
from windrow.scheduler.core.machines import NodeState
from windrow.scheduler.core.planning import plan
from windrow.scheduler.core.recovery import recall_job
from windrow.scheduler.core.releases import ask_for_waiting
from windrow.scheduler.core.reports import node_record, on_node_bye, on_node_hello, on_report
from windrow.scheduler.core.retention import on_ended_seen
from windrow.scheduler.core.state import Node, Out, State


def apply(state: State, event: Event, now: Now) -> list[Command]:
    """Take one event in. Records among the commands are to be committed before any effect of them is carried out."""
    out: list[Command] = []
    match event:
        case Asked(ask, change):
            out_answer = _on_asked(state, change, now, out)
            out.append(Answer(ask, out_answer))
        case Tick():
            on_time(state, now, out)
            if state.plan_wanted:
                plan(state, now, out)
            ask_for_waiting(state, now, out)
        case Sent(fence):
            on_sent(state, fence)
        case Unsent(fence, _):
            on_unsent(state, fence, now, out)
        case QueueSeen(node, ready):
            on_queue_seen(state, node, ready, now)
        case BrokerChanged(up, detail):
            _on_broker_changed(state, up, detail)
        case ClockGap(gap_s):
            on_clock_gap(state, gap_s)
        case Recalled(job):
            recall_job(state, job, now)
        case DependencyKnown(job_id, end):
            state.ends_known[job_id] = end
        case EndedSeen(jobs, leftovers, steady):
            on_ended_seen(state, jobs, now, out, leftovers=leftovers, steady=steady)
    return out


def _on_asked(state: State, change: Change, now: Now, out: Out) -> ChangeAnswer:
    match change:
        case Report():
            return on_report(state, change, now, out)
        case Append():
            return on_append(state, change, now, out)
        case StartJob():
            answer = on_start_job(state, change, now, out)
            state.ends_known.clear()
            return answer
        case CloseJob():
            return on_close_job(state, change, now, out)
        case CancelJob():
            return on_cancel_job(state, change, now, out)
        case PauseJob():
            return on_pause_job(state, change, out)
        case RetryJob():
            return on_retry_job(state, change, now, out)
        case NodeHello():
            return on_node_hello(state, change, now, out)
        case NodeBye():
            return on_node_bye(state, change, now, out)
        case DrainNode():
            return _on_drain_node(state, change, now, out)


def _on_broker_changed(state: State, up: bool, detail: str) -> None:
    state.plan_wanted = True
    state.broker_up = up
    state.broker_detail = detail


def _on_drain_node(state: State, asked: DrainNode, now: Now, out: Out) -> Accepted | Refused:
    found = _find_nodes(state, asked.node)
    if not found:
        known = ", ".join(sorted(node.name for node in state.nodes.values())) or "none has joined yet"
        return Refused("not_found", f"no node is called {asked.node!r}; nodes: {known}")
    if len(found) > 1:
        ids = ", ".join(sorted(node.id for node in found))
        what = f"{len(found)} nodes are called {asked.node!r}"
        return Refused("not_found", f"{what}: name one of them by its id: {ids}")
    node = found[0]
    node.drained = not asked.resume
    state.plan_wanted = True
    out.append(node_record(node))
    return Accepted(state.epoch, f"node {node.name} {'works again' if asked.resume else 'takes nothing more'}")


def _find_nodes(state: State, named: str) -> list[Node]:
    """By name or id, else by how an id begins. Dead ones count only where none lives: it may have been they before."""
    nodes = state.nodes.values()
    found = [node for node in nodes if named in (node.name, node.id)]
    found = found or [node for node in nodes if named and node.id.startswith(named)]
    return [node for node in found if node.state is NodeState.ALIVE] or found
