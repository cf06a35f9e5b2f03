"""Shell commands: `windrow run` beside HyperQueue, GNU parallel and xargs."""

from __future__ import annotations

import os
import sys
import tempfile

from benchmarks.environments import NEIGHBOURS, environment, program
from benchmarks.model import Bar, Contender, Figures, Missing, Row
from benchmarks.processes import output_of
from benchmarks.queues import last_json
from benchmarks.run import Run
from benchmarks.windrow_side import SETTINGS, Stopwatch, windrow
from tests.cluster import ROOT
from windrow.cli.app import COMMANDS

COMMANDS_S = 600.0


def commands(run: Run) -> Row:
    """The same trivial command so many times."""
    count = run.size(3_000, 1_000)

    def windrow_turn(number: int) -> Figures:
        if "run" not in COMMANDS:
            raise Missing("this checkout has no `windrow run` yet")
        with windrow(run.services, node_flags=["--allow-commands"]) as (cluster, _):
            environment = {**cluster.environment, "PYTHONPATH": str(ROOT)}
            base = [sys.executable, "-m", "windrow.cli", "run", "--url", cluster.url]
            output_of([*base, "--range", "0:20", "--", "true"], cwd=cluster.folder, timeout_s=60, env=environment)
            watch = Stopwatch()
            output_of(
                [*base, "--range", f"0:{count}", "--", "true"],
                cwd=cluster.folder,
                timeout_s=COMMANDS_S,
                env=environment,
            )
            return {"took_s": watch.s, "per_s": count / watch.s}

    def shell_turn(line: str) -> Figures:
        watch = Stopwatch()
        output_of(["sh", "-c", line], cwd=run.services.folder, timeout_s=COMMANDS_S)
        return {"took_s": watch.s, "per_s": count / watch.s}

    def xargs_turn(number: int) -> Figures:
        return shell_turn(f"seq 0 {count - 1} | {program('xargs', 'findutils')} -n1 -P2 true")

    def parallel_turn(number: int) -> Figures:
        return shell_turn(f"seq 0 {count - 1} | {program('parallel', 'parallel')} --will-cite -j2 true {{}}")

    def hyperqueue_turn(number: int) -> Figures:
        python = environment("hyperqueue") / "python"
        with tempfile.TemporaryDirectory(dir=run.services.folder) as folder:
            command = [str(python), str(NEIGHBOURS / "hyperqueue_side.py"), "commands", str(count), folder]
            env = {"PYTHONPATH": str(NEIGHBOURS), "PATH": os.environ["PATH"]}
            return last_json(output_of(command, cwd=run.services.folder, timeout_s=COMMANDS_S, env=env))

    def no_journal(number: int) -> Figures:
        raise Missing(
            "its wheel has no `hq` program, and the cluster that its Python interface starts takes no --journal"
        )

    return Row(
        "commands",
        f"`windrow run --range 0:{count} -- true`, two slots",
        "took_s",
        True,
        (
            Contender("Windrow", f"{SETTINGS}; the whole command line, outputs kept", windrow_turn),
            Contender(
                "HyperQueue, as documented",
                "server and worker of 2 cores in one process, by its Python interface, which looks once a second; "
                "outputs off, no journal",
                hyperqueue_turn,
            ),
            Contender("HyperQueue, equal safety", "with a journal", no_journal),
            Contender("GNU parallel", "-j2; nothing is durable", parallel_turn),
            Contender("xargs", "-n1 -P2; nothing is durable, nothing is kept", xargs_turn),
        ),
        (
            Bar("Windrow", "took_s", 1.0, False, to="HyperQueue, as documented"),
            Bar("Windrow", "took_s", 1.0, False, to="GNU parallel"),
            Bar("Windrow", "took_s", 1.3, False, to="xargs"),
        ),
    )
