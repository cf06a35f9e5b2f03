"""`windrow config`: every setting, its value, and where the value comes from."""

from __future__ import annotations

from windrow.cli.flags import Common, windrow_command
from windrow.cli.output import Column, note, print_json, print_table


@windrow_command("config")
def config_command(common: Common) -> None:
    """Show every setting and where it comes from: flag, environment, file or default. Passwords are not shown."""
    config = common.config()
    entries = list(config.entries())
    if common.json:
        settings = {
            entry.key: {"value": entry.value, "source": entry.origin.kind, "place": entry.origin.place}
            for entry in entries
        }
        print_json({"file": str(config.file) if config.file else None, "settings": settings})
        return
    note(f"file: {config.file}" if config.file else "file: none")
    rows = [[entry.key, entry.value, str(entry.origin)] for entry in entries]
    print_table([Column("setting", keep=True), Column("value"), Column("source")], rows, "")
