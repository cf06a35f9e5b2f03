"""The kinds of work of a chaos run: what is asked for, what must come of it, and what may befall it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tests.chaos import tasks


@dataclass(frozen=True, slots=True)
class Work:
    """One kind of job, started again and again."""

    name: str
    task: Any
    items: Callable[[], Iterable[object]]
    total: int
    value: Callable[[int], object]
    """What the item with this index must come to."""
    may_fail: frozenset[str] = frozenset({"node"})
    """Kinds of failures that are no finding: an item that was at three nodes when they were lost is given up."""
    once: bool = False
    """No item may run twice."""
    cancelled: bool = False
    """It is cancelled midway."""
    must_fail: Callable[[int], bool] = lambda _: False
    """Whether the item with this index must come to a failure of one of the kinds above."""


def word(number: int) -> str:
    """Items of different lengths."""
    return "ab" * (number % 50)


WORKS = (
    Work("numbers", tasks.square, lambda: range(5000), 5000, lambda x: x * x),
    Work("distinct", tasks.join, lambda: ((word(x), x) for x in range(400)), 400, lambda x: f"{word(x)}:{x}"),
    Work("flaky", tasks.flaky, lambda: range(300), 300, lambda x: -x),
    Work("stragglers", tasks.straggle, lambda: range(120), 120, lambda x: x + 1),
    Work(
        "once", tasks.once, lambda: [(x,) for x in range(300)], 300, lambda x: 2 * x,
        may_fail=frozenset({"lost", "crash"}), once=True,
    ),
    Work("cancelled", tasks.slow, lambda: range(500), 500, lambda x: 3 * x, cancelled=True),
)  # fmt: skip

CALLS = Work("calls", tasks.add, tuple, 0, lambda x: 2 * x + 1)
"""Single calls: they share jobs of their client, and have no number of items."""

BY_NAME = {work.name: work for work in (*WORKS, CALLS)}
