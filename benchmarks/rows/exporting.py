"""A large CSV file to Parquet, beside pyarrow and DuckDB."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.environments import CACHE, NEIGHBOURS, environment
from benchmarks.model import Bar, Contender, Figures, Row
from benchmarks.processes import output_of
from benchmarks.queues import last_json
from benchmarks.run import Run
from benchmarks.windrow_side import PATIENCE_S, SETTINGS, Stopwatch, windrow

ONE_THREAD = "pyarrow, one thread"
DUCKDB = "DuckDB, two threads"


def lineitem(scale: float) -> Path:
    """The file, made once: TPC-H's lineitem by tpchgen-cli, 6 million rows at scale 1."""
    folder = CACHE / "data" / f"scale-{scale:g}"
    found = folder / "lineitem.csv"
    if not found.exists():
        partial = folder.with_name(f"{folder.name}-partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        command = [str(environment("data") / "tpchgen-cli"), "csv", "-s", f"{scale:g}", "--tables=lineitem"]
        output_of([*command, f"--output-dir={partial}"], cwd=partial, timeout_s=PATIENCE_S)
        partial.rename(folder)
    return found


def export(run: Run) -> Row:
    """Two slots, the column types found by each itself."""
    scale = 1.0 if not run.quick else 0.2

    def data_turn(way: str) -> Figures:
        dest = run.services.folder / f"{way}.parquet"
        command = [
            str(environment("data") / "python"),
            str(NEIGHBOURS / "data_side.py"),
            way,
            str(lineitem(scale)),
            str(dest),
        ]
        figures = last_json(output_of(command, cwd=run.services.folder, timeout_s=PATIENCE_S))
        figures["size_mb"] = dest.stat().st_size / 1e6
        dest.unlink()
        return figures

    def windrow_turn(number: int) -> Figures:
        source, dest = lineitem(scale), run.services.folder / "windrow.parquet"
        with windrow(run.services) as (_, client):
            small = run.services.folder / "small.csv"
            small.write_text("a,b\n1,2\n" * 1_000)
            client.export(small, run.services.folder / "small.parquet", force=True).wait(PATIENCE_S)
            watch = Stopwatch()
            summary = client.export(source, dest).wait(PATIENCE_S)
            took_s = watch.s
            dest.unlink()
            return {"took_s": took_s, "rows": float(summary.rows), "size_mb": summary.bytes / 1e6}

    return Row(
        "export",
        f"export of {6_000_000 * scale:,.0f} rows (lineitem) CSV to Parquet, two slots",
        "took_s",
        True,
        (
            Contender(
                "Windrow",
                f"{SETTINGS}; every part synced, the file checked; the workers have pyarrow loaded, as the others",
                windrow_turn,
            ),
            Contender(
                ONE_THREAD,
                "csv.open_csv to ParquetWriter, snappy, use_threads=False, no sync",
                lambda _: data_turn("pyarrow"),
            ),
            Contender(
                f"{ONE_THREAD}, whole table",
                "csv.read_csv to parquet.write_table, snappy, use_threads=False, no sync",
                lambda _: data_turn("pyarrow-whole"),
            ),
            Contender(DUCKDB, "COPY (FROM read_csv) TO, snappy, threads=2, no sync", lambda _: data_turn("duckdb")),
        ),
        (
            Bar("Windrow", "took_s", 1.6, True, to=ONE_THREAD, inverse=True),
            Bar("Windrow", "took_s", 0.8, True, to=DUCKDB, inverse=True),
        ),
    )
