"""`python -m windrow.cli`: the same as the command `windrow`."""

from __future__ import annotations

from windrow.cli import main

if __name__ == "__main__":
    main()
