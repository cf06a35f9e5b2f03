"""The page that daemon and worker share."""

from __future__ import annotations

import pytest

from windrow.node.shared_page import NOTE, NOTE_AT, Executing, SharedPage


@pytest.fixture
def page() -> SharedPage:
    return SharedPage.create()


def test_cancelled_feeds_are_told_apart(page: SharedPage) -> None:
    page.cancel(7)
    page.cancel(8)
    assert [page.is_cancelled(feed) for feed in (6, 7, 8, 9, 7 + 64)] == [False, True, True, False, False]
    page.close()


def test_notes_of_feed_item_and_stop_do_not_touch_each_other(page: SharedPage) -> None:
    for feed in range(1, 65):
        page.cancel(feed)
    page.begin(70)
    NOTE.pack_into(page.memory, NOTE_AT, 12, 3.5)
    page.stop_through(71)
    assert page.find_executing() == Executing(70, 12, 3.5)
    assert page.stopped_through == 71
    assert all(page.is_cancelled(feed) for feed in range(1, 65))
    page.close()
