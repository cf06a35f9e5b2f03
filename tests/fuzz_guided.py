"""Looks for bytes that a decoder cannot take, guided by what of its code they reach: `make fuzz SECONDS=60`.

The first byte names the decoder, unless one is named: `make fuzz DECODER=footers`; `DECODER=each` gives each decoder
SECONDS of its own, one after the other. What was reached is kept in `.fuzz/corpus` for the next time; bytes that break
one are written to `.fuzz/`, and `python -m tests.fuzz_guided FILE` (with the interpreter of `.venv-fuzz`) shows how.
"""

from __future__ import annotations

import subprocess
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
EACH = "each"
LIMITS = (
    "-max_len=4096", "-timeout=10", "-rss_limit_mb=1024", "-artifact_prefix=.fuzz/", "-print_final_stats=1",
)  # fmt: skip


def try_one(data: bytes) -> None:
    if data:
        feed(NAMES[data[0] % len(NAMES)], data[1:])


def try_one_of(name: str) -> Callable[[bytes], None]:
    """As try_one, whatever the first byte is."""
    return lambda data: try_one(bytes([NAMES.index(name)]) + data[1:])


def make_corpus(names: list[str]) -> Path:
    """The folder of what was reached in these decoders before, with their examples."""
    corpus = CORPUS / (names[0] if len(names) == 1 else "all")
    corpus.mkdir(parents=True, exist_ok=True)
    for name in names:
        for number, example in enumerate(decoders()[name].examples):
            (corpus / f"{name}-{number}").write_bytes(bytes([NAMES.index(name)]) + example)
    return corpus


def fuzz_each(arguments: list[str]) -> int:
    """Fuzz the decoders one after the other, each in a process of its own; 1 where any was broken."""
    broken: list[str] = []
    for name in NAMES:
        command = [sys.executable, "-m", "tests.fuzz_guided", *arguments, ONLY + name]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        tried = [line for line in done.stdout.splitlines() if line.startswith("stat::number_of_executed_units:")]
        print(f"{name:24} {tried[0].split()[-1] if tried else '?':>10} tried, rc {done.returncode}", flush=True)
        if done.returncode:
            broken.append(name)
            print(done.stdout[-4_000:], flush=True)
    print(f"{len(NAMES)} decoders, broken: {', '.join(broken) or 'none'}")
    return 1 if broken else 0


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    arguments = [argument for argument in sys.argv[1:] if not argument.startswith(ONLY)]
    only = next((argument.removeprefix(ONLY) for argument in sys.argv[1:] if argument.startswith(ONLY)), "")
    if only == EACH:
        sys.exit(fuzz_each(arguments))
    if only and only not in NAMES:
        sys.exit(f"there is no decoder {only!r}: one of {', '.join(NAMES)}, or {EACH!r}")
    if not any(Path(argument).is_file() for argument in arguments):
        arguments = [*LIMITS, *arguments, str(make_corpus([only] if only else NAMES))]
    atheris.Setup([sys.argv[0], *arguments], try_one_of(only) if only else try_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
