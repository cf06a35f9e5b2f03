"""Names that a pattern means, and names that exports give to the files of a folder; pure."""

from __future__ import annotations

import re

PART_NAME = re.compile(r"part-\d{6,}\.(csv|jsonl|parquet)(\.gz|\.zst)?")
"""A file of a folder."""


def is_part_name(name: str) -> bool:
    """Whether an export gives this name to a file below a folder, partition and all."""
    folder, _, file = name.rpartition("/")
    return PART_NAME.fullmatch(file) is not None and "/" not in folder and (not folder or "=" in folder)


def matches(pattern: str, *paths: str) -> bool:
    """Whether a pattern, which is more than a name, means one of these paths; no star but ** goes over a slash."""
    if not re.search(r"[*?\[]", pattern):
        return False
    pieces = [r"(?:[^/]+/)*" if one == "**" else _of_component(one) + "/" for one in pattern.split("/")]
    if pattern.endswith("**"):
        pieces.append("[^/]+/")
    whole = re.compile("".join(pieces).removesuffix("/"))
    return any(whole.fullmatch(path) for path in paths)


def _of_component(text: str) -> str:
    """A pattern's component as a regular expression; no star goes over a slash."""
    pieces = re.findall(r"\[!?\]?[^\]]*\]|.", text)
    return "".join(
        "[^/]*" if one == "*"
        else "[^/]" if one == "?"
        else ("[^" + re.escape(one[2:-1]) + "]" if one[1] == "!" else "[" + one[1:-1].replace("\\", "\\\\") + "]")
        if len(one) > 2
        else re.escape(one)
        for one in pieces
    )  # fmt: skip
