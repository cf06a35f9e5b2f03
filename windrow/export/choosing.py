"""Finds the columns that the options name among those of the source, and decides what is read and what is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from windrow.common.errors import ExportError
from windrow.export.condition import find_condition_columns, shown_names
from windrow.export.model import OutputColumn, ReadColumn
from windrow.export.spec import ExportSpec
from windrow.export.texts import parse_casts
from windrow.export.types import TEXT


@dataclass(frozen=True, slots=True)
class Choice:
    """The columns of an export, by their index in the source."""

    names: tuple[str, ...]
    casts: dict[int, str]
    where: tuple[int, ...]
    output: tuple[tuple[int, str], ...]
    """(index, name) in the order of the output."""
    drop_null: tuple[int, ...]
    dedupe: tuple[int, ...]
    partition: int | None
    read: tuple[int, ...]
    """All that is needed, in source order."""

    def guessed(self, spec: ExportSpec, known: Mapping[int, str]) -> tuple[int, ...]:
        """The columns whose types are to be found: not those that the source or --cast gives a type."""
        if spec.infer == "none":
            return ()
        # CSV to CSV types only what an option names; the rest stays text, so that no value changes.
        typed = set(self.read) if spec.format != "csv" else set(self.where)
        return tuple(sorted(typed - set(self.casts) - set(known)))

    def read_columns(self, types: Mapping[int, str]) -> tuple[ReadColumn, ...]:
        """What is read, with these types and those asked for."""
        return tuple(
            ReadColumn(index, self.names[index], self.casts.get(index) or types.get(index, TEXT), index in self.casts)
            for index in self.read
        )

    def output_columns(
        self, spec: ExportSpec, types: Mapping[int, str], known: Mapping[int, str]
    ) -> tuple[OutputColumn, ...]:
        """What is written; to CSV as it was read, unless the source or --cast gives it a type."""
        given = known if spec.format == "csv" else types
        return tuple(
            OutputColumn(index, name, self.casts.get(index) or given.get(index, TEXT)) for index, name in self.output
        )


def choose(names: Sequence[str], spec: ExportSpec) -> Choice:
    """The columns that the spec names; ExportError for one that is not there, or not once."""
    return _Chooser(tuple(names), spec).choose()


class _Chooser:
    def __init__(self, names: tuple[str, ...], spec: ExportSpec) -> None:
        self._names = names
        self._spec = spec

    def choose(self) -> Choice:
        spec, names = self._spec, self._names
        casts = {self._find(cast.column, "--cast"): cast.type for cast in parse_casts(spec.cast)}
        where = find_condition_columns(spec.where, names) if spec.where else ()
        partition = self._find(spec.partition_by, "--partition-by") if spec.partition_by else None
        output = [self._find_output(entry) for entry in spec.columns] or list(enumerate(names))
        drop_null = tuple(self._find(name, "--drop-null") for name in spec.drop_null)
        dedupe = tuple(self._find(name, "--dedupe-by") for name in spec.dedupe_by)
        if partition is not None and partition not in {index for index, _ in output}:
            raise ExportError(f"--columns leaves out {spec.partition_by!r}, which makes the folders: add it")
        self._check_output(output)
        needed = {index for index, _ in output} | set(where) | set(casts) | set(drop_null) | set(dedupe)
        needed |= {partition} if partition is not None else set()
        return Choice(names, casts, where, tuple(output), drop_null, dedupe, partition, tuple(sorted(needed)))

    def _find(self, name: str, option: str) -> int:
        found = [index for index, known in enumerate(self._names) if known == name]
        if not found:
            raise ExportError(f"{option} names column {name!r}; the source has {shown_names(self._names)}")
        if len(found) > 1:
            raise ExportError(f"{option} names column {name!r}, which stands {len(found)} times in the header")
        return found[0]

    def _find_output(self, entry: str) -> tuple[int, str]:
        """`name`, or `name:new` with the name as long as it can be (a column may be called `a:b`)."""
        if entry in self._names:
            return self._find(entry, "--columns"), entry
        name, colon, new = entry.rpartition(":")
        while colon and name not in self._names and ":" in name:
            name, _, more = name.rpartition(":")
            new = f"{more}:{new}"
        if not colon or name not in self._names:
            return self._find(entry.partition(":")[0], "--columns"), entry
        if not new:
            raise ExportError(f"--columns {entry!r} gives no new name: write {name}:new_name, or {name} to keep it")
        return self._find(name, "--columns"), new

    def _check_output(self, output: Sequence[tuple[int, str]]) -> None:
        names = [name for _, name in output]
        twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
        # A CSV that goes through as it is may keep such a header; anything made of it may not.
        if twice is not None and (self._spec.format != "csv" or names != list(self._names)):
            raise ExportError(
                f"the output would have two columns {twice!r}: choose and rename with --columns a,b:new_name"
            )
