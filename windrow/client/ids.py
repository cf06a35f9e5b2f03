"""Draws ids and takes the ids of calls apart."""

from __future__ import annotations

import secrets

from windrow.common.errors import NotFound
from windrow.common.words import JobId

_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
ID_CHARS = 16


def draw_id() -> JobId:
    """A random id: 16 characters of Crockford's base32, lower case (80 bits)."""
    bits = secrets.randbits(5 * ID_CHARS)
    return JobId("".join(_CROCKFORD[(bits >> shift) & 31] for shift in range(0, 5 * ID_CHARS, 5)))


def parse_call_id(call_id: str) -> tuple[JobId, int]:
    """The job and the index of a call's id, `JOB/17`; NotFound where it is none."""
    job, slash, index = call_id.partition("/")
    if not (job and slash and index.isascii() and index.isdigit()):
        raise NotFound(
            f"no call has the id {call_id!r}: the id of a call is JOB/INDEX, as future.id or enqueue() gave it"
        )
    return JobId(job), int(index)
