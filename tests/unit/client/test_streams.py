"""A stream under a link that loses and repeats: no call twice, none lost, indexes dense."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windrow.client.streams import Batcher, Phase, Stream, cut_batches
from windrow.common.blocks import block_entries
from windrow.common.errors import ProtocolError
from windrow.common.messages import Accepted, Append, Appended, CloseJob, Started, StartJob
from windrow.common.words import JobId

JOB = JobId("0123456789abcdef")


class ModelScheduler:
    """What a scheduler keeps of one job, with the rules for appends."""

    def __init__(self) -> None:
        self.entries: list[bytes] = []
        self.started = 0
        self.closed_at: int | None = None

    def answer(self, message: object) -> object:
        if isinstance(message, StartJob):
            self.started = 1
            return Started(1, message.job, False, len(self.entries))
        assert self.started
        if isinstance(message, CloseJob):
            assert message.total == len(self.entries)
            self.closed_at = message.total
            return Accepted(1)
        assert isinstance(message, Append)
        entries = list(block_entries(message.block))
        assert len(entries) == message.count
        if message.first + message.count <= len(self.entries):
            assert self.entries[message.first : message.first + message.count] == entries
        else:
            assert message.first == len(self.entries)
            self.entries.extend(entries)
        return Appended(1, len(self.entries))


def drain(stream: Stream, scheduler: ModelScheduler) -> None:
    while (message := stream.next_message()) is not None:
        stream.on_answer(scheduler.answer(message))


ACTIONS = st.lists(
    st.one_of(
        st.binary(min_size=1, max_size=12).map(lambda entry: ("add", entry)),
        st.sampled_from([("send", b""), ("lost request", b""), ("lost answer", b"")]),
    ),
    max_size=80,
)


@given(actions=ACTIONS, items_max=st.integers(1, 5), bytes_max=st.integers(1, 30))
def test_no_call_is_lost_or_doubled_whatever_the_link_loses(
    actions: list[tuple[str, bytes]], items_max: int, bytes_max: int
) -> None:
    stream = Stream(StartJob(JOB, "t"), items_max=items_max, bytes_max=bytes_max)
    scheduler = ModelScheduler()
    added: list[bytes] = []
    for action, entry in actions:
        if action == "add":
            assert stream.add(entry) == len(added)
            added.append(entry)
            continue
        message = stream.next_message()
        assert message is not None
        assert stream.next_message() is message, "what is under way stays the same until it is answered"
        if action != "lost request":
            answer = scheduler.answer(message)
            if action == "send":
                stream.on_answer(answer)
        assert stream.durable <= len(scheduler.entries)
        assert stream.unsent_bytes == sum(map(len, added[stream.durable :]))
        if stream.phase is Phase.OPEN and not added[stream.durable :]:
            stream.add(b"x")
            added.append(b"x")
    stream.close()
    drain(stream, scheduler)
    assert scheduler.entries == added
    assert stream.durable == stream.total == len(added)
    assert stream.unsent_bytes == 0
    assert scheduler.closed_at == (len(added) if scheduler.started else None)


@given(entries=st.lists(st.binary(min_size=1, max_size=12)), items_max=st.integers(1, 5), bytes_max=st.integers(1, 30))
def test_batches_depend_on_the_items_alone_and_keep_to_the_limits(
    entries: list[bytes], items_max: int, bytes_max: int
) -> None:
    def batches() -> list[list[bytes]]:
        return [batch.entries for batch in cut_batches(iter(entries), items_max, bytes_max)]

    made = batches()
    assert made == batches()
    assert [entry for batch in made for entry in batch] == entries
    for batch in made:
        assert 0 < len(batch) <= items_max
        assert sum(map(len, batch)) <= bytes_max or len(batch) == 1
    batcher = Batcher(items_max, bytes_max)
    one_by_one = [batcher.add(entry) for entry in entries] + [batcher.take()]
    assert made == [batch.entries for batch in one_by_one if batch is not None]


def test_an_append_carries_the_delay_of_its_stream() -> None:
    stream = Stream(StartJob(JOB, "t"), delay_s=60.0)
    stream.add(b"a")
    stream.next_message()
    stream.on_answer(Started(1, JOB, False, 0))
    append = stream.next_message()
    assert isinstance(append, Append)
    assert append.delay_s == 60.0


def test_a_refused_append_loses_what_is_not_durable_and_nothing_else() -> None:
    stream = Stream(StartJob(JOB, "t"), items_max=2)
    for _ in range(5):
        stream.add(b"a")
    scheduler = ModelScheduler()
    for _ in range(2):
        message = stream.next_message()
        stream.on_answer(scheduler.answer(message))
    assert isinstance(stream.next_message(), Append)
    assert stream.on_refused() == (2, 5)
    assert stream.next_message() is None
    assert stream.unsent_bytes == 0
    with pytest.raises(ValueError, match="no more items"):
        stream.add(b"b")


def test_a_stream_without_items_is_never_opened() -> None:
    stream = Stream(StartJob(JOB, "t"))
    stream.close()
    assert stream.next_message() is None


def test_an_answer_to_another_question_is_a_protocol_error_and_the_question_stays() -> None:
    stream = Stream(StartJob(JOB, "t"))
    stream.add(b"a")
    asked = stream.next_message()
    with pytest.raises(ProtocolError, match="StartJob with Appended"):
        stream.on_answer(Appended(1, 1))
    assert stream.next_message() is asked
