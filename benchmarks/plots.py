"""Draws the two plots of docs/performance.md from a run's JSON; runs in an environment that has matplotlib."""

import json
import statistics
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot


def median(contender, figure):
    return statistics.median(turn[figure] for turn in contender["turns"])


def draw_throughput(rows, folder):
    """Items a second over the size of chunks, and what Windrow comes to with its own sizes."""
    contenders = rows["chunk-sizes"]["contenders"]
    fixed = [each for name, each in contenders.items() if name != "Windrow" and each["turns"]]
    figure, axes = pyplot.subplots(figsize=(7, 4))
    axes.plot(
        [median(each, "chunk_items") for each in fixed], [median(each, "per_s") for each in fixed],
        marker="o", label="chunks of one fixed size",
    )  # fmt: skip
    axes.axhline(median(contenders["Windrow"], "per_s"), color="tab:orange", label="Windrow's own sizes")
    axes.set(xscale="log", yscale="log", xlabel="items in a chunk", ylabel="no-op items a second, results read")
    finish(figure, axes, folder / "throughput-over-chunk-size.png")


def draw_costs(rows, folder):
    """Processor time a chunk over nodes, a line for each number of jobs."""
    figure, axes = pyplot.subplots(figsize=(7, 4))
    points = [each for each in rows["core-costs"]["contenders"].values() if each["turns"]]
    for jobs in sorted({median(each, "jobs") for each in points}):
        line = sorted(
            (median(each, "nodes"), median(each, "chunk_us")) for each in points if median(each, "jobs") == jobs
        )
        axes.plot(*zip(*line, strict=True), marker="o", label=f"{jobs:,.0f} job{'s' if jobs > 1 else ''}")
    axes.axhline(60, color="grey", linestyle=":", label="the bar")
    axes.set(xscale="log", xlabel="nodes of 16 slots", ylabel="µs of processor time a chunk", ylim=(0, None))
    finish(figure, axes, folder / "cost-over-nodes-and-jobs.png")


def finish(figure, axes, path):
    axes.grid(True, which="major", alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    print(path)


def main():
    rows = json.loads(Path(sys.argv[1]).read_text())["rows"]
    folder = Path(sys.argv[2])
    for row, draw in (("chunk-sizes", draw_throughput), ("core-costs", draw_costs)):
        if row in rows:
            draw(rows, folder)


if __name__ == "__main__":
    main()
