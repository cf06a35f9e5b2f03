"""The REQ sockets of the node against a ROUTER that does not answer, answers late, or answers from an older reign."""

from __future__ import annotations

import asyncio
import time
from urllib.parse import urlsplit

import pytest
import zmq
import zmq.asyncio

from tests.proxy import open_proxy
from tests.waiting import until
from windrow.common.errors import ConfigError, KeyConflict
from windrow.common.limits import PARKED_SECONDS_MAX
from windrow.common.messages import ANSWERS, REQUESTS, Directives, NodePoll, Refused, Report, Reported
from windrow.common.words import NodeId
from windrow.node.scheduler_link import SchedulerLink, poll_pace, report_pace

pytestmark = pytest.mark.integration

LEASE_S = 1.2
REPORT = Report(NodeId("n"), "b", 1)


class Router:
    """Answers each request with the next of its script; None is silence."""

    def __init__(self) -> None:
        self.context = zmq.asyncio.Context()
        self.sock = self.context.socket(zmq.ROUTER)
        self.sock.setsockopt(zmq.LINGER, 0)
        self.sock.bind("tcp://127.0.0.1:*")
        self.url = self.sock.getsockopt_string(zmq.LAST_ENDPOINT)
        self.heard: list[tuple[bytes, object]] = []

    async def serve(self, *answers: object) -> None:
        for answer in answers:
            *envelope, payload = await self.sock.recv_multipart()
            self.heard.append((envelope[0], REQUESTS.decode(payload)))
            if isinstance(answer, bytes):
                await self.sock.send_multipart([*envelope, answer])
            elif answer is not None:
                await self.sock.send_multipart([*envelope, ANSWERS.encode(answer)])

    def close(self) -> None:
        self.sock.close(0)
        self.context.term()


async def report(*answers: object) -> tuple[Router, object]:
    router = Router()
    link = SchedulerLink(router.url)
    link.follow_lease(LEASE_S)
    link.epoch = 5
    serving = asyncio.create_task(router.serve(*answers))
    try:
        answer = await asyncio.wait_for(link.report(REPORT), 20)
        await asyncio.wait_for(serving, 5)
        return router, answer
    finally:
        serving.cancel()
        link.close()
        router.close()


def test_after_a_miss_the_same_message_goes_out_on_a_new_socket() -> None:
    router, answer = asyncio.run(report(None, Reported(5)))
    assert answer == Reported(5)
    (first, said), (second, again) = router.heard
    assert said == again == REPORT
    assert first != second, "the same socket was used again"


def test_a_report_that_is_lost_is_made_again_before_the_lease_is_over() -> None:
    began = time.monotonic()
    asyncio.run(report(None, Reported(5)))
    assert time.monotonic() - began < LEASE_S


@pytest.mark.parametrize("lease_s", [0.01, 0.5, 2.0, 6.0, 60.0])
def test_three_tries_fit_into_a_lease_and_two_beside_a_heartbeat_of_half_of_it(lease_s: float) -> None:
    pace = report_pace(lease_s)
    first_s, second_s = sum(pace.after_misses(0)), sum(pace.after_misses(1))
    assert first_s < lease_s / 2
    assert first_s + second_s < lease_s


def test_tries_grow_so_that_a_slow_scheduler_gets_its_answer_through_and_pauses_fit_into_a_lease() -> None:
    pace = report_pace(1.0)
    tries = [pace.after_misses(misses) for misses in range(40)]
    assert [deadline_s for deadline_s, _ in tries[:5]] == [0.25, 0.5, 1.0, 2.0, 3.0]
    assert tries[-1] == (3.0, 0.25)
    assert max(backoff_s for _, backoff_s in tries) <= 1.0 / 4
    assert poll_pace(1.0).after_misses(40) == (PARKED_SECONDS_MAX + 5.0, 0.25)


@pytest.mark.parametrize("bad", [Reported(4), b"garbage", Directives(5)])
def test_an_answer_of_an_older_epoch_or_none_at_all_is_ignored(bad: object) -> None:
    router, answer = asyncio.run(report(bad, Reported(6)))
    assert answer == Reported(6)
    assert len(router.heard) == 2


def test_a_refusal_is_raised_as_what_it_stands_for() -> None:
    with pytest.raises(KeyConflict, match="taken"):
        asyncio.run(report(Refused("key_conflict", "taken")))


def test_an_address_that_is_none_is_refused_with_an_example() -> None:
    async def ask() -> None:
        link = SchedulerLink("nonsense")
        try:
            await link.report(REPORT)
        finally:
            link.close()

    with pytest.raises(ConfigError, match="tcp://"):
        asyncio.run(ask())


def test_a_parked_poll_can_be_interrupted_and_asked_anew() -> None:
    async def run() -> None:
        router = Router()
        link = SchedulerLink(router.url)
        serving = asyncio.create_task(router.serve(None, Directives(1, drain=True)))
        try:
            parked = asyncio.create_task(link.poll(NodePoll(NodeId("n"), "b")))
            while not router.heard:
                await asyncio.sleep(0.005)
            link.interrupt_poll()
            assert await asyncio.wait_for(parked, 5) is None
            directives = await asyncio.wait_for(link.poll(NodePoll(NodeId("n"), "b", draining=True)), 5)
            assert directives == Directives(1, drain=True)
            await asyncio.wait_for(serving, 5)
        finally:
            serving.cancel()
            link.close()
            router.close()

    asyncio.run(run())


def test_a_parked_poll_whose_connection_breaks_is_asked_anew_at_once() -> None:
    """Its answer would never come, and a node of `local:` gets its chunks by nothing else."""

    async def run() -> None:
        router = Router()
        serving = asyncio.create_task(router.serve(None, Directives(1, drain=True)))
        async with open_proxy(urlsplit(router.url).port or 0) as proxy:
            link = SchedulerLink(f"tcp://127.0.0.1:{proxy.port}")
            try:
                parked = asyncio.create_task(link.poll(NodePoll(NodeId("n"), "b")))
                await until(lambda: router.heard, 5.0, "the poll to be parked")
                proxy.cut()
                assert await asyncio.wait_for(parked, PARKED_SECONDS_MAX / 2) == Directives(1, drain=True)
                await asyncio.wait_for(serving, 5)
            finally:
                serving.cancel()
                link.close()
        router.close()

    asyncio.run(run())
