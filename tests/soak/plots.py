"""Draws a soak from its JSON into one picture; runs in an environment that has matplotlib."""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

MB = 1 << 20
PANELS = (
    (
        "memory of daemons, MB",
        MB,
        lambda name: name.endswith(".memory") and "workers" not in name and "broker" not in name,
    ),
    ("memory of a worker, MB", MB, lambda name: name.endswith("workers.memory")),
    ("memory of the broker, MB", MB, lambda name: name == "broker.memory"),
    ("open files", 1, lambda name: name.endswith(".files")),
    ("threads", 1, lambda name: name.endswith(".threads")),
    ("store and spools, MB", MB, lambda name: name in ("store.database", "store.log", "spools")),
    ("jobs and streams", 1, lambda name: name.endswith(".jobs")),
    ("messages in node queues", 1, lambda name: name == "broker.messages"),
    ("single call, ms", 1e-3, lambda name: name.startswith("call.")),
    ("items that ended, a second", 1, lambda name: name == "items"),
)


def main():
    facts = json.loads(Path(sys.argv[1]).read_text())
    figure, grid = pyplot.subplots(5, 2, figsize=(13, 16), sharex=True)
    for axes, (title, scale, belongs) in zip(grid.flat, PANELS, strict=True):
        for name, points in facts["series"].items():
            if belongs(name) and points:
                label = name.rsplit(".", 1)[0] if title.startswith(("memory of", "open", "threads")) else name
                axes.plot([at / 60 for at, *_ in points], [value / scale for _, value, _ in points], lw=1, label=label)
        for restart in facts["restarts"]:
            axes.axvline(restart["began_s"] / 60, color="grey", lw=0.5, alpha=0.4)
        axes.axvspan(0, facts["warm_up_s"] / 60, color="grey", alpha=0.1)
        axes.set_title(title, fontsize=10)
        axes.set_ylim(bottom=0)
        axes.grid(True, alpha=0.3)
        if axes.has_data():
            axes.legend(fontsize=7)
    for axes in grid[-1]:
        axes.set_xlabel("minutes; a line: a restart; grey: warm-up")
    figure.tight_layout()
    figure.savefig(sys.argv[2], dpi=65, metadata={"Software": None})
    print(sys.argv[2])


if __name__ == "__main__":
    main()
