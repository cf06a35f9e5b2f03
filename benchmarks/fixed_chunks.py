"""The command line of Windrow with chunks of one fixed size: what the benchmark of chunk sizes starts as its scheduler.

Windrow has no setting for the size of chunks; the one function that decides it is replaced here, and nothing else.
"""

from __future__ import annotations

import sys

from windrow.cli import main
from windrow.scheduler.core import planning

DECIDES = "_wanted_items"


def fix(items: int) -> None:
    """Every chunk gets so many items, or what is left."""
    if not hasattr(planning, DECIDES):
        raise SystemExit(f"scheduler/core/planning.py has no {DECIDES} any more: mend benchmarks/fixed_chunks.py")
    setattr(planning, DECIDES, lambda *_: items)


if __name__ == "__main__":
    fix(int(sys.argv[1]))
    del sys.argv[1]
    main()
