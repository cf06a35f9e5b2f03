"""Puts the bars of a run into docs/performance.md: `python -m benchmarks.document benchmarks/results/DATE.json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.environments import ROOT
from benchmarks.table import MET

DOCUMENT = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- bars: made by benchmarks/document.py -->", "<!-- end of bars -->"


def bars(data: dict[str, Any], name: str) -> str:
    """What was measured on what, and each bar."""
    facts = data["machine"]
    size = f"a quick run, {data['turns']} turns" if data["quick"] else f"{data['turns']} turns"
    lines = [
        (
            f"{data['date']}, {facts['cores']} cores ({facts['processor']}), Python {facts['python']}, a sync takes "
            f"{facts['fsync_median_ms']} ms, load before {facts['load_before']}; {size}. "
            f"All of it: [{name}](../benchmarks/results/{name})."
        ),
        "",
        "| row | what | bar | measured | met |",
        "|---|---|---|---|---|",
    ]
    for row, each in data["rows"].items():
        for bar in each["bars"]:
            lines.append(f"| {row} | {each['title']} | {bar['bar']} | {bar['measured']} | {MET[bar['met']]} |")
    return "\n".join(lines)


def with_bars(text: str, made: str) -> str:
    """The document with these bars in their place."""
    before, rest = text.split(BEGIN, 1)
    return f"{before}{BEGIN}\n\n{made}\n\n{END}{rest.split(END, 1)[1]}"


def main() -> None:
    """Rewrite the document."""
    path = Path(sys.argv[1])
    made = bars(json.loads(path.read_text()), path.with_suffix(".md").name)
    DOCUMENT.write_text(with_bars(DOCUMENT.read_text(), made))


if __name__ == "__main__":
    main()
