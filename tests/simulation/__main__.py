"""Runs seeds, replays one with its history, and shrinks one that fails: `python -m tests.simulation --help`."""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.simulation import protections
from tests.simulation.scenario import Scenario, draw_scenario, from_json, to_json
from tests.simulation.shrink import shrink
from tests.simulation.truth import Note
from tests.simulation.world import run_scenario

ROOT = Path(__file__).resolve().parents[2]
LINES_SHOWN = 60


def main() -> int:
    asked = _parse()
    if os.environ.get("PYTHONHASHSEED") != "0":
        # Sets of ids have their order by it: without it one seed would not give the same run each time.
        return subprocess.run([sys.executable, "-m", "tests.simulation", *sys.argv[1:]], env=_environment()).returncode
    with protections.without(asked.without) if asked.without else contextlib.nullcontext():
        if asked.seeds:
            return _run_many(asked) if asked.step else _share_out(asked)
        scenario = draw_scenario(asked.seed) if asked.scenario is None else from_json(Path(asked.scenario).read_text())
        return _shrink(scenario, asked) if asked.shrink else _replay(scenario, asked)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seed", type=int, nargs="?", default=0, help="the seed to replay, or the first of --seeds")
    parser.add_argument("--seeds", type=int, default=0, help="run so many seeds, on all cores")
    parser.add_argument("--step", type=int, default=0, help="with --seeds: in this process alone, every so manieth")
    parser.add_argument("--scenario", help="replay this JSON file instead of a seed")
    parser.add_argument("--shrink", action="store_true", help="find a small scenario that fails, and print it as JSON")
    parser.add_argument("--without", choices=sorted(protections.ALL), help="switch a protection off first")
    parser.add_argument("--job", help="show the history of this job (job0, job1, …) alone")
    parser.add_argument("--fence", help="… of this chunk alone, by its fence: 1.17")
    parser.add_argument("--node", help="… of this node alone: node0")
    parser.add_argument("--all", action="store_true", help=f"all lines, not only the last {LINES_SHOWN}")
    return parser.parse_args()


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


def run_seeds(first: int, count: int, *, processes: int = 0, without: str | None = None) -> list[str]:
    """Run seeds in processes of their own; what was found, a line for each seed (`without` a protection: the first)."""
    shares = processes or min(count, os.cpu_count() or 1)
    command = [sys.executable, "-m", "tests.simulation", "--step", str(shares)]
    command += ["--without", without] if without else []

    def run(share: int) -> list[str]:
        arguments = [str(first + share), "--seeds", str(max(0, count - share))]
        done = subprocess.run([*command, *arguments], env=_environment(), cwd=ROOT, capture_output=True, text=True)
        if done.returncode not in (0, 1):
            return [done.stdout + done.stderr]
        return [line for line in done.stdout.splitlines() if line]

    with ThreadPoolExecutor(shares) as pool:
        return [line for lines in pool.map(run, range(shares)) for line in lines]


def _share_out(asked: argparse.Namespace) -> int:
    began = time.perf_counter()
    found = run_seeds(asked.seed, asked.seeds, without=asked.without)
    print(*found, sep="\n", end="\n" if found else "")
    took_s = time.perf_counter() - began
    print(f"{asked.seeds} seeds in {took_s:.0f} s ({asked.seeds / took_s * 60:.0f} a minute): {len(found)} findings")
    return 1 if found else 0


def _run_many(asked: argparse.Namespace) -> int:
    """Every step-th seed; a line for each that fails. With a protection off, the first one is enough."""
    failed = 0
    for seed in range(asked.seed, asked.seed + asked.seeds, asked.step):
        finding, _ = run_scenario(draw_scenario(seed))
        if finding is not None:
            failed += 1
            text = " ".join(str(finding).split())
            print(f"seed {seed}: {text[:400]}; see `python -m tests.simulation {seed}`", flush=True)
            if asked.without:
                break
    return 1 if failed else 0


def _replay(scenario: Scenario, asked: argparse.Namespace) -> int:
    finding, world = run_scenario(scenario, noting=True)
    notes = [note for note in world.truth.notes or () if _is_wanted(note, asked)]
    hidden = 0 if asked.all else max(0, len(notes) - LINES_SHOWN)
    if hidden:
        print(f"… {hidden} lines before these; --all shows them")
    for note in notes[hidden:]:
        about = " ".join(part for part in (note.job, note.fence, note.node) if part)
        print(f"{note.at:10.4f} {note.who:16} {note.what}{f'  [{about}]' if about else ''}")
    print(f"{world.clock.now:10.4f} {'the end':16} {finding or 'nothing was found'}")
    return 1 if finding else 0


def _is_wanted(note: Note, asked: argparse.Namespace) -> bool:
    wanted = ((asked.job, note.job), (asked.fence, note.fence), (asked.node, note.node))
    return all(value is None or value == said for value, said in wanted)


def _shrink(scenario: Scenario, asked: argparse.Namespace) -> int:
    finding, _ = run_scenario(scenario)
    if finding is None:
        print("nothing was found: there is nothing to shrink", file=sys.stderr)
        return 2
    small = shrink(scenario, lambda each: run_scenario(each)[0] is not None)
    print(to_json(small))
    print(f"{run_scenario(small)[0]}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
