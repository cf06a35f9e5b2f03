"""A stream under a link that loses and repeats: no call twice, none lost, indexes dense."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from windrow.client.streams import Batch, Batcher, Phase, Stream, cut_batches
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
    def batches() -> list[Batch]:
        return list(cut_batches(iter(entries), items_max, bytes_max))

    made = batches()
    assert made == batches()
    assert [entry for batch in made for entry in batch.entries] == entries
    for batch in made:
        assert 0 < len(batch.entries) <= items_max
        assert batch.size_bytes == sum(map(len, batch.entries))
        assert batch.size_bytes <= bytes_max or len(batch.entries) == 1
    batcher = Batcher(items_max, bytes_max)
    one_by_one = [batcher.add(entry) for entry in entries] + [batcher.take()]
    assert made == [batch for batch in one_by_one if batch is not None]


@pytest.mark.parametrize(
    ("stream", "delay_s"), [(Stream(StartJob(JOB, "t"), delay_s=60.0), 60.0), (Stream(StartJob(JOB, "t")), 0.0)]
)
def test_an_append_carries_the_delay_of_its_stream_which_is_none_unless_given(stream: Stream, delay_s: float) -> None:
    stream.add(b"a")
    stream.next_message()
    stream.on_answer(Started(1, JOB, False, 0))
    append = stream.next_message()
    assert isinstance(append, Append)
    assert append.delay_s == delay_s


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


def test_a_stream_that_is_open_says_nothing_while_there_is_nothing_to_append() -> None:
    stream, scheduler = Stream(StartJob(JOB, "t")), ModelScheduler()
    for entry in (b"a", b"b"):
        stream.add(entry)
        drain(stream, scheduler)
        assert stream.next_message() is None
    assert (scheduler.entries, scheduler.closed_at) == ([b"a", b"b"], None)


def test_a_refused_stream_lets_go_of_its_items() -> None:
    stream, scheduler = Stream(StartJob(JOB, "t"), items_max=2), ModelScheduler()
    entries = [bytes([number] * 3) for number in range(5)]
    held = [sys.getrefcount(entry) for entry in entries]
    for entry in entries:
        stream.add(entry)
    stream.on_answer(scheduler.answer(stream.next_message()))
    assert isinstance(stream.next_message(), Append)
    stream.on_refused()
    del entry
    assert [sys.getrefcount(entry) for entry in entries] == held


def test_a_closed_stream_takes_no_more_items_and_tells_what_it_has() -> None:
    stream, scheduler = Stream(StartJob(JOB, "t")), ModelScheduler()
    stream.add(b"a")
    stream.close()
    with pytest.raises(ValueError, match="no more items"):
        stream.add(b"b")
    drain(stream, scheduler)
    assert (scheduler.entries, scheduler.closed_at, stream.phase) == ([b"a"], 1, Phase.CLOSED)


def test_a_stream_without_items_is_never_opened() -> None:
    stream = Stream(StartJob(JOB, "t"))
    stream.close()
    assert stream.next_message() is None


STARTED, APPENDED, ACCEPTED = Started(1, JOB, False, 0), Appended(1, 2), Accepted(1)


@pytest.mark.parametrize(
    ("answers", "question", "wrong"),
    [
        ((), "StartJob", (APPENDED, ACCEPTED, None)),
        ((STARTED,), "Append", (STARTED, ACCEPTED, Appended(1, 1), Appended(1, 0), None)),
        ((STARTED, APPENDED), "CloseJob", (STARTED, APPENDED, None)),
        ((STARTED, APPENDED, ACCEPTED), "nothing", (STARTED, APPENDED, ACCEPTED)),
    ],
)
def test_an_answer_to_another_question_is_a_protocol_error_and_the_question_stays(
    answers: tuple[object, ...], question: str, wrong: tuple[object, ...]
) -> None:
    stream = Stream(StartJob(JOB, "t"))
    stream.add(b"a")
    stream.add(b"b")
    stream.close()
    for answer in answers:
        stream.next_message()
        stream.on_answer(answer)
    asked, before = stream.next_message(), (stream.phase, stream.durable, stream.unsent_bytes)
    assert question == ("nothing" if asked is None else type(asked).__name__)
    for answer in wrong:
        with pytest.raises(ProtocolError, match=f"answered {question} with {type(answer).__name__}"):
            stream.on_answer(answer)
        assert stream.next_message() is asked
        assert (stream.phase, stream.durable, stream.unsent_bytes) == before
