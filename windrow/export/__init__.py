"""The data export: a plan cuts the source into segments, tasks convert them, and one task publishes the whole.

Nothing here imports pyarrow or DuckDB before a task runs: a client may start exports without them.
"""

from windrow.export.run import ExportProgress, ExportRun, ExportSummary, export, start_export
from windrow.export.spec import ExportSpec, make_spec, read_spec_file, spec_from_options
from windrow.export.starting import preview

__all__ = [
    "ExportProgress",
    "ExportRun",
    "ExportSpec",
    "ExportSummary",
    "export",
    "make_spec",
    "preview",
    "read_spec_file",
    "spec_from_options",
    "start_export",
]
