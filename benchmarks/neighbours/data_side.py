"""pyarrow with one thread and DuckDB with two: a CSV file to a Parquet file."""

import json
import sys
import time

import duckdb
import pyarrow
from pyarrow import csv, parquet


def by_pyarrow(source, dest):
    """As it streams: block for block, so that memory stays small."""
    pyarrow.set_cpu_count(1)
    pyarrow.set_io_thread_count(1)
    reader = csv.open_csv(source, read_options=csv.ReadOptions(use_threads=False, block_size=16 << 20))
    with parquet.ParquetWriter(dest, reader.schema, compression="snappy") as writer:
        for batch in reader:
            writer.write_batch(batch)
    return parquet.read_metadata(dest).num_rows


def by_pyarrow_whole(source, dest):
    """As the documentation's first example: the whole table in memory, then written."""
    pyarrow.set_cpu_count(1)
    pyarrow.set_io_thread_count(1)
    table = csv.read_csv(source, read_options=csv.ReadOptions(use_threads=False))
    parquet.write_table(table, dest, compression="snappy")
    return table.num_rows


def by_duckdb(source, dest):
    db = duckdb.connect(config={"threads": 2})
    copied = db.execute(f"COPY (FROM read_csv('{source}')) TO '{dest}' (FORMAT parquet, COMPRESSION snappy)").fetchone()
    return copied[0]


def main():
    way, source, dest = sys.argv[1:]
    run = {"pyarrow": by_pyarrow, "pyarrow-whole": by_pyarrow_whole, "duckdb": by_duckdb}[way]
    began = time.perf_counter()
    rows = run(source, dest)
    print(json.dumps({"took_s": time.perf_counter() - began, "rows": rows}))


if __name__ == "__main__":
    main()
