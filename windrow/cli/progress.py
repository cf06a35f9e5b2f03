"""Shows how far a job is: a bar with rate and time left on a terminal, a plain line now and then elsewhere.

Elsewhere means: one line at the start, one at each further 10 per cent and at least one every 5 s, one at the end.
All of it goes to standard error.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, TextIO

from windrow.cli.output import count, duration

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

LINE_EVERY_S = 5.0
SMOOTH_OVER_S = 10.0
LABEL_CHARS = 24


class Rate:
    """A rate smoothed over about ten seconds; time is an argument."""

    def __init__(self, smooth_over_s: float = SMOOTH_OVER_S) -> None:
        self._smooth_over_s = smooth_over_s
        self._last: tuple[float, float] | None = None
        self._sum = 0.0
        self._weight = 0.0

    def add(self, done: float, now_s: float) -> None:
        """`done` in all, at `now_s`."""
        if self._last is not None:
            before, at = self._last
            span = now_s - at
            if span <= 0:
                return
            kept = math.exp(-span / self._smooth_over_s)
            # A retry takes items back: the rate is then zero, not negative.
            self._sum = self._sum * kept + max(done - before, 0.0) / span * (1 - kept)
            self._weight = self._weight * kept + (1 - kept)
        self._last = (done, now_s)

    @property
    def per_second(self) -> float:
        # Divided by the weight so far, or the first seconds would read too low.
        return self._sum / self._weight if self._weight else 0.0

    def find_left_s(self, done: float, total: float | None) -> float | None:
        """Seconds until `total`; None while nobody can say."""
        if total is None or self.per_second <= 0:
            return None
        return max(total - done, 0.0) / self.per_second


class Progress(Protocol):
    """What commands show their progress with."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def update(self, label: str, done: int, total: int | None, detail: str = "") -> None:
        """`done` of `total` (None: not known yet) in the phase `label`; a new label starts a new rate."""
        ...

    def say(self, line: str) -> None:
        """A line of something else between; from any thread."""
        ...


def make_progress(unit: str = "items", stream: TextIO | None = None) -> Progress:
    """A bar where `stream` (standard error) is a terminal, else lines."""
    target = stream or sys.stderr
    return BarProgress(unit, target) if target.isatty() else LineProgress(unit, target)


class LineProgress:
    """Progress as plain lines, few enough for a log file."""

    def __init__(self, unit: str, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._unit = unit
        self._stream = stream
        self._clock = clock
        self._rate = Rate()
        self._label: str | None = None
        self._said_at_s = -math.inf
        self._said_tenth = 0
        self._said = ""
        self._newest = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._say_rest()

    def update(self, label: str, done: int, total: int | None, detail: str = "") -> None:
        """See Progress."""
        now_s = self._clock()
        if label != self._label:
            self._say_rest()
            self._rate, self._label, self._said_tenth, self._said_at_s = Rate(), label, 0, -math.inf
        self._rate.add(done, now_s)
        self._newest = self._line(label, done, total, detail)
        tenth = 10 * done // total if total else 0
        if tenth > self._said_tenth or now_s - self._said_at_s >= LINE_EVERY_S:
            self._said_tenth, self._said_at_s = tenth, now_s
            self._say(self._newest)

    def say(self, line: str) -> None:
        """See Progress."""
        self._stream.write(line + "\n")
        self._stream.flush()

    def _line(self, label: str, done: int, total: int | None, detail: str) -> str:
        per_cent = f" ({100 * done // total} %)" if total else ""
        left_s = self._rate.find_left_s(done, total)
        if total is None and not done:
            return f"{label}{': ' if detail else ''}{detail}"
        parts = [
            f"{label}: {count(done)} of {count(total)} {self._unit}{per_cent}",
            rate_text(self._rate.per_second),
            f"{duration(left_s)} left" if left_s else "",
            detail,
        ]
        return ", ".join(part for part in parts if part)

    def _say_rest(self) -> None:
        if self._newest != self._said:
            self._say(self._newest)

    def _say(self, line: str) -> None:
        self._said = line
        self._stream.write(line + "\n")
        self._stream.flush()


class BarProgress:
    """Progress as a bar that stays in its place; widths are fixed so that it does not dance."""

    def __init__(self, unit: str, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        self._unit = unit
        self._clock = clock
        self._rates: dict[str, Rate] = {}
        self._tasks: dict[str, TaskID] = {}
        self._bar: RichProgress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(28),
            TaskProgressColumn(),
            TextColumn("{task.fields[numbers]}", markup=False),
            console=Console(file=stream),
            # No thread of its own: it is drawn when there is something new to draw.
            auto_refresh=False,
        )

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self, label: str, done: int, total: int | None, detail: str = "") -> None:
        """See Progress."""
        rate = self._rates.setdefault(label, Rate())
        rate.add(done, self._clock())
        left_s = rate.find_left_s(done, total)
        left = f"{duration(left_s)} left" if left_s is not None and (total is None or done < total) else ""
        of = f"{count(done)}/{count(total)} {self._unit}" if done or total is not None else ""
        numbers = f"{of:>24}  {rate_text(rate.per_second):>10}  {left:<18}{detail}"
        if label not in self._tasks:
            self._tasks[label] = self._bar.add_task(f"{label[:LABEL_CHARS]:<12}", total=total, numbers=numbers)
        self._bar.update(self._tasks[label], completed=done, total=total, numbers=numbers)
        self._bar.refresh()

    def say(self, line: str) -> None:
        """See Progress."""
        from rich.text import Text

        # Through the bar's console, which draws the bar anew below it.
        self._bar.print(Text.from_ansi(line))


def rate_text(per_second: float) -> str:
    """A rate in few characters; empty for none."""
    if per_second <= 0:
        return ""
    return f"{count(round(per_second))}/s" if per_second >= 10 else f"{per_second:.1f}/s"
