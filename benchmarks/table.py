"""The table that a run ends with, and the JSON beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.model import Results, Row, Verdict, ratio, round3

MET = {True: "yes", False: "**no**", None: "not judged"}
Finished = list[tuple[Row, Results]]


def markdown(finished: Finished, facts: dict[str, object], date: str, *, quick: bool, turns: int) -> str:
    """Every bar first, then every contender with its settings."""
    head = f"{date}, {facts['cores']} cores ({facts['processor']}), Python {facts['python']}"
    head += f", fsync {facts['fsync_median_ms']} ms"
    size = f"quick: smaller sizes, {turns} turns" if quick else f"medians of {turns} interleaved turns"
    lines = [f"{head}; {size}; load before {facts['load_before']}.", "", *_bars(finished)]
    for row, results in finished:
        lines += ["", *_row(row, results)]
    return "\n".join(lines) + "\n"


def _bars(finished: Finished) -> list[str]:
    lines = ["| row | what | bar | measured | met |", "|---|---|---|---|---|"]
    for row, results in finished:
        for verdict in verdicts(row, results):
            lines.append(f"| {row.name} | {row.title} | {verdict.bar} | {verdict.measured} | {MET[verdict.met]} |")
    return lines


def verdicts(row: Row, results: Results) -> list[Verdict]:
    return [bar.judge(results) for bar in row.bars]


def _row(row: Row, results: Results) -> list[str]:
    lines = [
        f"**{row.name}**: {row.title}",
        "",
        "| contender | figures (median, lowest to highest) | Windrow's ratio | settings |",
        "|---|---|---|---|",
    ]
    for name, measured in results.items():
        figures = "; ".join(_spread(figure, measured.values(figure)) for figure in _figures(measured.turns))
        lines.append(f"| {name} | {figures or measured.missing} | {_ratio(row, results, name)} | {measured.settings} |")
    return [*lines, "", row.note] if row.note else lines


def _figures(turns: list[dict[str, float]]) -> list[str]:
    return list(dict.fromkeys(figure for turn in turns for figure in turn))


def _spread(figure: str, values: list[float]) -> str:
    values = sorted(values)
    middle = (
        values[len(values) // 2] if len(values) % 2 else (values[len(values) // 2 - 1] + values[len(values) // 2]) / 2
    )
    spread = f" ({round3(values[0])} to {round3(values[-1])})" if len(values) > 1 else ""
    return f"{figure} {round3(middle)}{spread}"


def _ratio(row: Row, results: Results, name: str) -> str:
    ours = results.get("Windrow")
    if name == "Windrow" or ours is None or not ours.values(row.figure) or not results[name].values(row.figure):
        return ""
    return f"{round3(ratio(results, 'Windrow', name, row.figure, row.less_is_better))}× as fast"


def as_json(finished: Finished, facts: dict[str, object], date: str, *, quick: bool, turns: int) -> dict[str, Any]:
    """All that was measured, turn by turn."""
    rows: dict[str, Any] = {}
    for row, results in finished:
        rows[row.name] = {
            "title": row.title,
            "figure": row.figure,
            "contenders": {
                name: {"settings": each.settings, "missing": each.missing, "turns": each.turns}
                for name, each in results.items()
            },
            "bars": [
                {"bar": verdict.bar, "measured": verdict.measured, "met": verdict.met}
                for verdict in verdicts(row, results)
            ],
        }
    return {"date": date, "quick": quick, "turns": turns, "machine": facts, "rows": rows}


def write(
    folder: Path, date: str, finished: Finished, facts: dict[str, object], *, quick: bool, turns: int
) -> list[Path]:
    """`DATE.md` and `DATE.json`; a quick run says so in its name, and never replaces a full one."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{date}-quick" if quick else date
    paths = [folder / f"{stem}.md", folder / f"{stem}.json"]
    paths[0].write_text(markdown(finished, facts, date, quick=quick, turns=turns))
    data = as_json(finished, facts, date, quick=quick, turns=turns)
    paths[1].write_text(json.dumps(data, indent=1) + "\n")
    return paths
