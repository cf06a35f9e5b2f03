"""Keeps the counts of live jobs in step with the commits, so that nobody has to sum up their outcomes each time."""

from __future__ import annotations

from collections.abc import Sequence

from windrow.common.words import TERMINAL_STATES
from windrow.scheduler.core.records import PutFailure, PutJob, PutValues, Record, ReopenItems, SetJob


class LiveCounts:
    """(done, failed) by job number, for live jobs that were read or written since the store was opened."""

    def __init__(self) -> None:
        self._counts: dict[int, tuple[int, int]] = {}

    def find(self, no: int) -> tuple[int, int] | None:
        return self._counts.get(no)

    def put(self, no: int, done: int, failed: int) -> None:
        self._counts[no] = (done, failed)

    def note(self, records: Sequence[Record]) -> None:
        """These were committed."""
        counts = self._counts
        for record in records:
            if isinstance(record, PutValues | PutFailure):
                self._add(record)
            elif isinstance(record, PutJob):
                counts[record.no] = (0, 0)
            elif isinstance(record, ReopenItems) or (isinstance(record, SetJob) and record.state in TERMINAL_STATES):
                # How many items were reopened is not known here: the next reader sums up.
                counts.pop(record.no, None)

    def _add(self, record: PutValues | PutFailure) -> None:
        known = self._counts.get(record.no)
        if known is None:
            return
        done, failed = known
        if isinstance(record, PutValues):
            self._counts[record.no] = (done + sum(stop - start for start, stop in record.slices), failed)
        elif record.final:
            self._counts[record.no] = (done, failed + 1)
