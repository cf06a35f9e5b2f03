"""Every limit has a name here, a unit at its end, and an error or back-pressure where it is reached."""

from __future__ import annotations

PROTOCOL_VERSION = 0
"""Of both channels; it becomes 1 when the chaos runs pass."""

ITEM_BYTES_MAX = 1 << 20
"""One encoded item. The way out: put the data in a file or object store and send its path."""

RESULT_BYTES_MAX = 1 << 20
"""One encoded value. The way out: write the value to a file and return its path."""

VALUE_NESTING_MAX = 64
"""Tuples, sets and other extensions inside one another in an item or a value; lists and dicts do not count."""

APPEND_BYTES_MAX = 1 << 20
"""Encoded items in one append; a single larger item (up to ITEM_BYTES_MAX) travels alone."""

APPEND_ITEMS_MAX = 50_000
"""Items in one append."""

CHUNK_BYTES_MAX = 4 << 20
"""Encoded items in one chunk message."""

CHUNK_ITEMS_MAX = 1_000_000
"""Items in one chunk."""

REPORT_BYTES_MAX = 4 << 20
"""Encoded outcomes that a node puts into one report before the rest waits for the next."""

RUNS_MAX = 4_096
"""Runs, failures, fences or chunk reports in one message."""

MESSAGE_BYTES_MAX = 16 << 20
"""One message on either channel, everything included; larger ones are refused before they are read."""

PAGE_BYTES_MAX = 2 << 20
"""Outcomes in one page of results."""

JOB_ITEMS_MAX = 1 << 53
"""Items of one job."""

BOUNDARIES_MAX = 200_000
"""Boundaries of one job's sets; beyond it no fresh range is carved, and retries go first."""

NAME_CHARS_MAX = 256
"""Names of tasks, jobs, queues, nodes and keys."""

TEXT_CHARS_MAX = 16_384
"""Error messages and tracebacks; longer ones lose their middle."""

FENCES_PER_NODE_MAX = 512
"""Live fences of one node, however tiny its chunks."""

PARKED_SECONDS_MAX = 20.0
"""How long the scheduler keeps a poll before it answers that there is nothing to say."""
