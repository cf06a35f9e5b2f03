"""Each accepted fence leaves the table of unconfirmed messages exactly once, whatever the broker says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from windrow.common.words import Fence
from windrow.scheduler.unconfirmed import Unconfirmed


def fence(counter: int) -> Fence:
    return Fence(1, counter)


def filled(count: int) -> Unconfirmed:
    table = Unconfirmed()
    for counter in range(1, count + 1):
        table.accept(fence(counter), float(counter))
        table.published(fence(counter))
    return table


def test_an_ack_is_about_one_tag_or_all_up_to_it() -> None:
    table = filled(5)
    assert table.confirmed(2, multiple=False) == [fence(2)]
    assert table.confirmed(4, multiple=True) == [fence(1), fence(3), fence(4)]
    assert table.confirmed(4, multiple=False) == []
    assert len(table) == 1


def test_what_was_returned_is_not_confirmed_afterwards() -> None:
    table = filled(2)
    assert table.drop(fence(1))
    assert not table.drop(fence(1))
    assert table.confirmed(2, multiple=True) == [fence(2)]


def test_only_those_whose_time_is_up_expire_and_late_confirms_mean_nothing() -> None:
    table = filled(3)
    assert table.expired(2.0) == [fence(1), fence(2)]
    assert table.expired(2.0) == []
    assert table.first_deadline_s == 3.0
    assert table.confirmed(3, multiple=True) == [fence(3)]
    assert table.first_deadline_s is None


def test_a_fence_that_waits_for_its_queue_expires_too_and_takes_no_tag() -> None:
    table = Unconfirmed()
    table.accept(fence(1), 1.0)
    table.accept(fence(2), 2.0)
    table.published(fence(2))
    assert table.confirmed(1, multiple=False) == [fence(2)]
    assert table.expired(5.0) == [fence(1)]


def test_a_new_channel_counts_from_one_again() -> None:
    table = filled(3)
    assert table.clear() == [fence(1), fence(2), fence(3)]
    table.accept(fence(9), 9.0)
    table.published(fence(9))
    assert table.confirmed(1, multiple=False) == [fence(9)]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("publish"), st.just(0)),
            st.tuples(st.sampled_from(["ack", "ack all", "return", "expire"]), st.integers(1, 30)),
            st.tuples(st.just("reconnect"), st.just(0)),
        ),
        max_size=60,
    )
)
def test_no_order_of_events_loses_or_doubles_a_fence(events: list[tuple[str, int]]) -> None:
    table, accepted, ended = Unconfirmed(), list[Fence](), list[Fence]()
    for kind, number in events:
        if kind == "publish":
            accepted.append(fence(len(accepted) + 1))
            table.accept(accepted[-1], float(len(accepted)))
            table.published(accepted[-1])
        elif kind == "return":
            ended += [fence(number)] * table.drop(fence(number))
        elif kind == "expire":
            ended += table.expired(float(number))
        elif kind == "reconnect":
            ended += table.clear()
        else:
            ended += table.confirmed(number, multiple=kind == "ack all")
        assert sorted(ended) == sorted(set(ended))
        assert len(ended) + len(table) == len(accepted)
    ended += table.clear()
    assert sorted(ended) == accepted
