"""Which feed goes to which slot."""

from __future__ import annotations

import pytest

from windrow.common.words import Fence, JobId
from windrow.node.feeding import GROWTH, ChunkView, FeedOrder, Pace, ReplaceOrder, SlotView, plan_feeds

JOB = JobId("j")
FEED_S = 0.05


def chunk(counter: int, unfed: int, *, alone: bool = False) -> ChunkView:
    return ChunkView(Fence(1, counter), JOB, unfed, alone)


def slot(number: int, outstanding: int = 0, *, fresh: bool = False) -> SlotView:
    return SlotView(number, outstanding, fresh)


def measured(item_s: float, items: int = 100_000) -> Pace:
    pace = Pace()
    pace.measured(JOB, items, item_s * items)
    return pace


def test_unmeasured_work_is_fed_one_item_at_a_time_and_never_ahead() -> None:
    orders = plan_feeds([slot(0), slot(1), slot(2, 1)], [chunk(1, 100)], Pace(), FEED_S)
    assert orders == [FeedOrder(0, Fence(1, 1), 1), FeedOrder(1, Fence(1, 1), 1)]


def test_no_feed_has_more_items_than_a_worker_may_run() -> None:
    pace = Pace(100)
    for _ in range(6):
        pace.measured(JOB, 100_000, 0.01)
    assert pace.items_for(JOB, FEED_S) == 100


def test_feeds_grow_step_by_step_to_the_measured_time() -> None:
    pace = Pace()
    sizes = [pace.items_for(JOB, FEED_S)]
    for _ in range(6):
        pace.measured(JOB, sizes[-1], sizes[-1] * 1e-5)
        sizes.append(pace.items_for(JOB, FEED_S))
    assert sizes[:4] == [1, GROWTH, GROWTH**2, GROWTH**3]
    assert abs(sizes[-1] - 5000) <= 1


def test_the_pace_follows_items_that_grow_longer() -> None:
    pace = measured(1e-3, 100)
    for _ in range(10):
        pace.measured(JOB, 1, 0.1)
    assert pace.find_item_s(JOB) == pytest.approx(0.1, rel=0.01)


def test_a_feed_that_was_stopped_before_its_first_item_says_nothing_of_the_pace() -> None:
    pace = Pace()
    pace.measured(JOB, 0, 1.0)
    assert pace.find_item_s(JOB) is None


def test_an_item_that_takes_longer_than_a_feed_is_fed_by_itself() -> None:
    assert plan_feeds([slot(0)], [chunk(1, 10)], measured(1.0), FEED_S) == [FeedOrder(0, Fence(1, 1), 1)]


def test_an_idle_slot_is_served_before_a_busy_one_gets_a_second_feed() -> None:
    orders = plan_feeds([slot(0, 1), slot(1)], [chunk(1, 100_000)], measured(1e-6), FEED_S)
    assert [order.slot for order in orders] == [1, 0]


def test_no_slot_gets_a_third_feed() -> None:
    assert plan_feeds([slot(0, 2)], [chunk(1, 100_000)], measured(1e-6), FEED_S) == []


@pytest.mark.parametrize(("item_s", "count"), [(FEED_S / 2.5, 2), (FEED_S / 2, 2), (FEED_S / 1.8, 0), (1.0, 0)])
def test_long_items_are_not_put_in_line_behind_one_another(item_s: float, count: int) -> None:
    """That is: where a feed has no room for two."""
    orders = plan_feeds([slot(0, 1)], [chunk(1, 10)], measured(item_s, 1), FEED_S)
    assert [order.count for order in orders if isinstance(order, FeedOrder)] == ([count] if count else [])


def test_what_one_slot_gets_ahead_no_other_gets_too() -> None:
    orders = plan_feeds([slot(0, 1), slot(1, 1)], [chunk(1, 10), chunk(2, 5)], measured(1e-6), FEED_S)
    assert orders == [FeedOrder(0, Fence(1, 1), 10), FeedOrder(1, Fence(1, 2), 5)]


def test_idle_slots_share_what_one_could_take_alone() -> None:
    orders = plan_feeds([slot(0), slot(1)], [chunk(1, 40)], measured(1e-3), FEED_S)
    assert orders == [FeedOrder(0, Fence(1, 1), 20), FeedOrder(1, Fence(1, 1), 20)]


def test_crumbs_are_not_shared() -> None:
    orders = plan_feeds([slot(0), slot(1)], [chunk(1, 40)], measured(1e-6), FEED_S)
    assert orders == [FeedOrder(0, Fence(1, 1), 40)]


def test_chunks_are_fed_in_order_of_arrival() -> None:
    orders = plan_feeds([slot(0), slot(1), slot(2)], [chunk(1, 1), chunk(2, 1), chunk(3, 9)], Pace(), FEED_S)
    assert [order.fence.counter for order in orders if isinstance(order, FeedOrder)] == [1, 2, 3]


def test_a_suspect_goes_to_a_fresh_idle_worker() -> None:
    orders = plan_feeds([slot(0), slot(1, fresh=True)], [chunk(1, 1, alone=True)], Pace(), FEED_S)
    assert orders == [FeedOrder(1, Fence(1, 1), 1)]


def test_without_a_fresh_worker_an_idle_one_is_replaced_for_the_suspect() -> None:
    orders = plan_feeds([slot(0)], [chunk(1, 1, alone=True), chunk(2, 5)], Pace(), FEED_S)
    assert orders == [ReplaceOrder(0)]


def test_two_suspects_go_to_two_fresh_workers() -> None:
    slots = [slot(n, fresh=True) for n in range(4)]
    orders = plan_feeds(slots, [chunk(1, 1, alone=True), chunk(2, 1, alone=True)], Pace(), FEED_S)
    assert orders == [FeedOrder(0, Fence(1, 1), 1), FeedOrder(1, Fence(1, 2), 1)]


def test_a_suspect_waits_for_a_worker_that_is_starting_and_the_others_go_on() -> None:
    chunks = [chunk(1, 1, alone=True), chunk(2, 1)]
    assert plan_feeds([slot(0)], chunks, Pace(), FEED_S, starting=1) == [FeedOrder(0, Fence(1, 2), 1)]
    orders = plan_feeds([slot(0, 1)], [chunk(1, 1, alone=True), chunk(2, 10)], measured(1e-6), FEED_S, starting=1)
    assert orders == [FeedOrder(0, Fence(1, 2), 10)], "nor is work kept from a busy one"


def test_a_suspect_that_a_fresh_worker_can_take_waits_for_none() -> None:
    orders = plan_feeds([slot(0, fresh=True)], [chunk(1, 1, alone=True)], Pace(), FEED_S, starting=1)
    assert orders == [FeedOrder(0, Fence(1, 1), 1)]


def test_each_worker_that_is_starting_is_waited_for_by_one_suspect() -> None:
    chunks = [chunk(1, 1, alone=True), chunk(2, 1, alone=True)]
    slots = [slot(0), slot(1), slot(2)]
    assert plan_feeds(slots, chunks, Pace(), FEED_S, starting=1) == [ReplaceOrder(0)]
    assert plan_feeds(slots, chunks, Pace(), FEED_S, starting=2) == []
    slots = [slot(0, fresh=True), slot(1), slot(2)]
    assert plan_feeds(slots, chunks, Pace(), FEED_S, starting=1) == [FeedOrder(0, Fence(1, 1), 1)]


def test_a_suspect_waits_where_every_slot_has_its_next_feed_already() -> None:
    assert plan_feeds([slot(0, 2)], [chunk(1, 1, alone=True)], Pace(), FEED_S) == []


def test_of_two_slots_suspects_get_one_and_other_work_the_other() -> None:
    suspects = [chunk(n, 1, alone=True) for n in range(2)]
    orders = plan_feeds([slot(0), slot(1)], [*suspects, chunk(9, 1)], Pace(), FEED_S)
    assert orders == [ReplaceOrder(0), FeedOrder(1, Fence(1, 9), 1)]


def test_a_busy_slot_is_kept_free_for_a_suspect_and_no_more_than_half_of_them() -> None:
    waiting = [chunk(n, 1, alone=True) for n in range(4)]
    slots = [slot(n, 1) for n in range(4)]
    orders = plan_feeds(slots, [*waiting, chunk(9, 1_000_000)], measured(1e-6), FEED_S)
    assert [order.slot for order in orders] == [2, 3]


def test_measurements_of_jobs_long_unseen_are_forgotten() -> None:
    pace = Pace()
    for number in range(300):
        pace.measured(JobId(str(number)), 10, 1.0)
    assert pace.find_item_s(JobId("0")) is None
    assert pace.find_item_s(JobId("299")) == 0.1
