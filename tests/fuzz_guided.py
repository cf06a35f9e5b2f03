"""Looks for bytes that a decoder cannot take, guided by what of its code they reach: `make fuzz SECONDS=60`.

The first byte names the decoder, unless one is named: `make fuzz DECODER=footers`. What was reached is kept in
`.fuzz/corpus` for the next time; bytes that break one are written to `.fuzz/`, and `python -m tests.fuzz_guided FILE`
(with the interpreter of `.venv-fuzz`) shows how.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import atheris
import structlog

with atheris.instrument_imports(include=["windrow"]):
    from tests.fuzzing import decoders, feed

NAMES = sorted(decoders())
CORPUS = Path(".fuzz/corpus")


ONLY = "--decoder="


def try_one(data: bytes) -> None:
    if data:
        feed(NAMES[data[0] % len(NAMES)], data[1:])


def try_one_of(name: str) -> Callable[[bytes], None]:
    """As try_one, whatever the first byte is."""
    return lambda data: try_one(bytes([NAMES.index(name)]) + data[1:])


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    CORPUS.mkdir(parents=True, exist_ok=True)
    for at, name in enumerate(NAMES):
        for number, example in enumerate(decoders()[name].examples):
            (CORPUS / f"{name}-{number}").write_bytes(bytes([at]) + example)
    arguments = [argument for argument in sys.argv[1:] if not argument.startswith(ONLY)]
    only = next((argument.removeprefix(ONLY) for argument in sys.argv[1:] if argument.startswith(ONLY)), "")
    if only and only not in NAMES:
        sys.exit(f"there is no decoder {only!r}: one of {', '.join(NAMES)}")
    if not any(Path(argument).is_file() for argument in arguments):
        limits = [
            "-max_len=4096",
            "-timeout=10",
            "-rss_limit_mb=1024",
            "-artifact_prefix=.fuzz/",
            "-print_final_stats=1",
        ]
        arguments = [*limits, *arguments, str(CORPUS)]
    atheris.Setup([sys.argv[0], *arguments], try_one_of(only) if only else try_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
