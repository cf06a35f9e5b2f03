"""The kinds of jobs of a soak: those of the chaos runs, and single-item, large, urgent, delayed and failing ones."""

from __future__ import annotations

from tests.chaos.works import WORKS as CHAOS_WORKS
from tests.chaos.works import Work
from tests.soak import tasks

LARGE_ITEMS = 20_000
FAILING = "failing"

WORKS = (
    *CHAOS_WORKS,
    Work("single", tasks.double, lambda: range(1), 1, lambda x: 2 * x),
    Work("large", tasks.double, lambda: range(LARGE_ITEMS), LARGE_ITEMS, lambda x: 2 * x),
    Work("urgent", tasks.double.options(priority=9), lambda: [(x,) for x in range(50)], 50, lambda x: 2 * x),
    Work("delayed", tasks.double.options(delay=5.0), lambda: [(x,) for x in range(20)], 20, lambda x: 2 * x),
    Work(
        FAILING, tasks.fail_some, lambda: range(100), 100, lambda x: x,
        must_fail=lambda x: x % tasks.FAILS_EVERY == 0,
    ),
)  # fmt: skip

BY_NAME = {work.name: work for work in WORKS}
