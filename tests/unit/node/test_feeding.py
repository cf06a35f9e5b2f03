"""Which feed goes to which slot."""

from __future__ import annotations

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


def test_an_idle_slot_is_served_before_a_busy_one_gets_a_second_feed() -> None:
    orders = plan_feeds([slot(0, 1), slot(1)], [chunk(1, 100_000)], measured(1e-6), FEED_S)
    assert [order.slot for order in orders] == [1, 0]


def test_no_slot_gets_a_third_feed() -> None:
    assert plan_feeds([slot(0, 2)], [chunk(1, 100_000)], measured(1e-6), FEED_S) == []


def test_long_items_are_not_put_in_line_behind_one_another() -> None:
    assert plan_feeds([slot(0, 1)], [chunk(1, 10)], measured(1.0, 1), FEED_S) == []


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
