"""Reads row groups of a Parquet file into columns, and says which type of ours each of its types is."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportUnknownParameterType=false

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet

from windrow.common.errors import ExportError
from windrow.export.rows import BadRow, CountedPlaces, Rows, plain_value, row_numbers, shown_value
from windrow.export.types import DECIMAL_DIGITS_MAX, TEXT

pc: Any = pyarrow.compute
parquet: Any = pyarrow.parquet
arrow_types: Any = pa.types


@dataclass(frozen=True, slots=True)
class ParquetColumn:
    """A column of a Parquet file."""

    name: str
    type: str
    """Of ours; empty: there is none for it."""
    shown: str
    """The file's own type."""


def parquet_columns(file: str | BinaryIO, source: str) -> list[ParquetColumn]:
    """The columns of a Parquet file; ExportError where it is none."""
    try:
        schema = parquet.read_schema(file)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ExportError(f"{source} cannot be read as Parquet: {_first_line(error)}") from None
    return [ParquetColumn(field.name, find_type_name(field.type), str(field.type)) for field in schema]


def check_columns(columns: Sequence[ParquetColumn], wanted: Collection[str], source: str) -> None:
    """ExportError where a wanted column has a type that is not read, or a name that another one has too."""
    for at, column in enumerate(columns):
        if column.name not in wanted:
            continue
        others = ", ".join(other.name for other in columns if other.type and other.name != column.name)
        if not column.type:
            raise ExportError(
                f"column {column.name!r} of {source} has the type {column.shown}, which is not exported; "
                + (f"choose others with --columns: {others}" if others else "it has no other columns")
            )
        if any(before.name == column.name for before in columns[:at]):
            raise ExportError(f"{source} has two columns {column.name!r}: leave them out with --columns")


def find_type_name(kind: Any) -> str:
    """Our type that holds all values of this Arrow type; empty where there is none."""
    if arrow_types.is_dictionary(kind):
        kind = kind.value_type
    if arrow_types.is_decimal(kind):
        fits = kind.precision <= DECIMAL_DIGITS_MAX and 0 <= kind.scale <= kind.precision
        return f"decimal({kind.precision},{kind.scale})" if fits else ""
    if arrow_types.is_timestamp(kind):
        return "timestamp" if kind.tz is None else "timestamptz"
    if any(check(kind) for check in _TEXTS) or arrow_types.is_null(kind):
        return TEXT
    return _NAMES.get(kind, "")


_TEXTS = (
    arrow_types.is_string, arrow_types.is_large_string, arrow_types.is_string_view, arrow_types.is_binary,
    arrow_types.is_large_binary, arrow_types.is_binary_view, arrow_types.is_fixed_size_binary,
)  # fmt: skip
_NAMES: dict[Any, str] = {
    pa.int8(): "int32",
    pa.int16(): "int32",
    pa.int32(): "int32",
    pa.int64(): "int64",
    pa.uint8(): "int32",
    pa.uint16(): "int32",
    pa.uint32(): "int64",
    pa.uint64(): "decimal(20,0)",
    pa.float16(): "float32",
    pa.float32(): "float32",
    pa.float64(): "float64",
    pa.bool_(): "bool",
    pa.date32(): "date",
    pa.date64(): "date",
}


def read_parquet(
    file: str | BinaryIO,
    *,
    start: int,
    stop: int,
    wanted: Mapping[int, tuple[str, str]],
    first_row: int,
    source: str = "",
) -> Rows:
    """The wanted columns of row groups [start, stop), by index (name, type).

    A column comes in the type that parquet_columns gives for it; one that the file does not have is null, of the
    wanted type. Values that this type cannot hold make bad rows: bytes that are no UTF-8, fractions of microseconds.
    """
    try:
        with parquet.ParquetFile(file) as opened:
            count = sum(opened.metadata.row_group(at).num_rows for at in range(start, stop))
            have = set(opened.schema_arrow.names)
            names = [name for name, _ in wanted.values() if name in have]
            table = opened.read_row_groups(list(range(start, stop)), columns=names, use_threads=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, KeyError) as error:
        raise ExportError(f"{source} cannot be read as Parquet: {_first_line(error)}") from None
    raw = {index: _one(table.column(name), name) for index, (name, _) in wanted.items() if name in have}
    places = CountedPlaces(first_row, [wanted[index][0] for index in raw], list(raw.values()))
    columns: dict[int, Any] = {}
    spoiled: dict[int, BadRow] = {}
    for index, (name, _) in wanted.items():
        if index not in raw:
            # It is text until it is cast; a null is a null of any type.
            columns[index] = pa.nulls(count, pa.string())
            continue
        columns[index], bad, why = _converted(raw[index], name, source)
        for row in pc.indices_nonzero(bad).to_pylist() if bad is not None else ():
            value = str(plain_value(raw[index], row))
            reason = f"row {places.line(row)} of {source}: column {name!r} has {shown_value(value)}, {why}"
            spoiled.setdefault(row, BadRow(places.line(row), name, value, reason, places.text(row)))
    removed = sorted(spoiled)
    if removed:
        good = pc.invert(pc.is_in(row_numbers(count), value_set=pa.array(removed, pa.int64())))
        columns = {index: column.filter(good) for index, column in columns.items()}
    return Rows(columns, count - len(removed), [spoiled[row] for row in removed], places, removed, source)


def _one(column: Any, name: str) -> Any:
    try:
        array: Any = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    except pa.ArrowInvalid:
        raise ExportError(
            f"column {name!r} is too long to be read at once: write the source with smaller row groups"
        ) from None
    return array.dictionary_decode() if arrow_types.is_dictionary(array.type) else array


def _converted(column: Any, name: str, source: str) -> tuple[Any, Any, str]:
    """The column in our type, where it does not fit (None: nowhere), and what is the matter there."""
    kind = column.type
    if find_type_name(kind) == "":
        raise ExportError(f"column {name!r} of {source} has the type {kind}, which is not exported")
    if arrow_types.is_string(kind):
        return column, None, ""
    if arrow_types.is_timestamp(kind):
        return _microseconds(column)
    if any(check(kind) for check in _TEXTS):
        return _as_text(column)
    wanted = _ARROW_OF.get(kind, kind)
    if arrow_types.is_decimal(kind):
        wanted = pa.decimal128(kind.precision, kind.scale)
    return (column if kind == wanted else pc.cast(column, wanted)), None, ""


_ARROW_OF: dict[Any, Any] = {
    pa.int8(): pa.int32(),
    pa.int16(): pa.int32(),
    pa.uint8(): pa.int32(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(20, 0),
    pa.float16(): pa.float32(),
    pa.date64(): pa.date32(),
    pa.null(): pa.string(),
}


def _as_text(column: Any) -> tuple[Any, Any, str]:
    binary = pc.cast(column, pa.binary())
    try:
        return pc.cast(binary, pa.string()), None, ""
    except pa.ArrowInvalid:
        # Rare enough to be looked at one by one, and there is no other way.
        bad = pa.array([not _is_text(value) for value in binary.to_pylist()])
        good = pc.if_else(bad, pa.scalar(None, pa.binary()), binary)
        return pc.cast(good, pa.string()), bad, "which is no UTF-8: text must be UTF-8"


def _is_text(value: bytes | None) -> bool:
    try:
        (value or b"").decode()
    except UnicodeDecodeError:
        return False
    return True


def _microseconds(column: Any) -> tuple[Any, Any, str]:
    """UTC where there is a zone: the instants are the same, whatever zone they are shown in."""
    wanted: Any = pa.timestamp("us") if column.type.tz is None else pa.timestamp("us", "UTC")
    try:
        return pc.cast(column, wanted), None, ""
    except pa.ArrowInvalid:
        pass
    numbers = pc.cast(column, pa.int64())
    if column.type.unit == "ns":
        rounded = pc.cast(column, wanted, safe=False)
        bad = pc.not_equal(pc.multiply(pc.cast(rounded, pa.int64()), 1000), numbers)
        why = "which has fractions of a microsecond: a timestamp has none"
    else:
        factor = 1_000_000 if column.type.unit == "s" else 1_000
        largest = (2**63 - 1) // factor
        bad = pc.or_(pc.greater(numbers, largest), pc.less(numbers, -largest))
        why = "which is too far away for a timestamp in microseconds"
    bad = pc.fill_null(bad, False)
    return pc.cast(pc.if_else(bad, pa.scalar(None, column.type), column), wanted), bad, why


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0]
