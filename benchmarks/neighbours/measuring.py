"""What the programs of all neighbours share: what they are asked, and how they time it."""

import json
import os
import statistics
import sys
import time

BROKER = os.environ.get("BENCH_BROKER", "")
RESULTS = os.environ.get("BENCH_RESULTS", "")
SAFE = os.environ.get("BENCH_SAFE") == "1"


def asked():
    """(kind, count) of the command line."""
    return sys.argv[1], int(sys.argv[2])


def say(**figures):
    """Hand the figures to the harness."""
    print(json.dumps(figures), flush=True)


def rate_of(count, run):
    """Calls a second of `run`, which returns the results: each is the number of its call."""
    began = time.perf_counter()
    results = run()
    took_s = time.perf_counter() - began
    assert list(results) == list(range(count)), "a result is missing, or in the wrong place"
    return {"per_s": count / took_s, "took_s": took_s}


def trips_of(count, call):
    """Median and 99th percentile of `call(number)`, one at a time."""
    took_ms = []
    for number in range(count):
        began = time.perf_counter()
        assert call(number) == number
        took_ms.append(1e3 * (time.perf_counter() - began))
    cuts = statistics.quantiles(took_ms, n=100)
    return {"median_ms": cuts[49], "p99_ms": cuts[98]}
