"""Finds every setting: flags over environment over file over defaults, each with the place it came from.

Nothing else reads the environment or the file. pydantic is imported only by `load_config`, so that a client which
merely wants its address (`find_url`) stays light.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, cast

from windrow.common.errors import ConfigError
from windrow.common.redact import redact_url

if TYPE_CHECKING:
    from pydantic import ValidationError

    from windrow.common.settings_model import ClientSection, LogSection, NodeSection, SchedulerSection, Settings

LOCAL_FILE = Path("windrow.toml")
SYSTEM_FILE = Path("/etc/windrow/windrow.toml")

SHORT_NAMES: dict[str, tuple[str, ...]] = {
    "WINDROW_URL": ("client.url",),
    "WINDROW_AMQP_URL": ("scheduler.amqp_url", "node.amqp_url"),
    "WINDROW_STORE_URL": ("scheduler.store_url",),
}
"""Environment variable → the settings that it gives; it beats the long name."""


class OriginKind(StrEnum):
    """Where a value came from, the strongest first."""

    FLAG = "flag"
    ENVIRONMENT = "env"
    FILE = "file"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from; `place` is the variable or the file."""

    kind: OriginKind
    place: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.place}".rstrip()


DEFAULT = Origin(OriginKind.DEFAULT)
OWN_FOLDER = Origin(OriginKind.ENVIRONMENT, "STATE_DIRECTORY")
"""systemd's StateDirectory=: the folder of this very daemon."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One setting as `windrow config` shows it: no passwords."""

    key: str
    value: str
    origin: Origin


@dataclass(frozen=True, slots=True)
class Config:
    """Every setting and where it came from."""

    settings: Settings
    origins: Mapping[str, Origin]
    file: Path | None

    @property
    def state_dir(self) -> Path:
        return self.settings.state_dir

    @property
    def client(self) -> ClientSection:
        return self.settings.client

    @property
    def scheduler(self) -> SchedulerSection:
        return self.settings.scheduler

    @property
    def node(self) -> NodeSection:
        return self.settings.node

    @property
    def log(self) -> LogSection:
        return self.settings.log

    def origin(self, key: str) -> Origin:
        """Where the value of `section.key` came from."""
        return self.origins.get(key, DEFAULT)

    def entries(self) -> Iterator[Entry]:
        """Every setting, section by section, without passwords."""
        from windrow.common.settings_model import SECTIONS, show

        yield Entry("state_dir", show(self.state_dir), self.origin("state_dir"))
        for section, model in SECTIONS.items():
            for name in model.model_fields:
                key = f"{section}.{name}"
                yield Entry(key, show(getattr(getattr(self.settings, section), name)), self.origin(key))


_OriginOf = Callable[[str], Origin]
_Found = dict[str, tuple[object, Origin]]
"""`section.key` → its raw value and where it stands."""


def load_config(
    path: Path | None = None,
    flags: Mapping[str, object] | None = None,
    flag_names: Mapping[str, str] | None = None,
) -> Config:
    """Every setting; ConfigError says what is wrong where.

    `flags` maps `section.key` to a value (None: not given), `flag_names` to what people call the flag.
    """
    file = find_file(path)
    found: _Found = {}
    if file is not None:
        found |= _from_file(file)
    found |= _from_environment()
    for key, value in (flags or {}).items():
        if value is not None:
            found[key] = (value, Origin(OriginKind.FLAG, (flag_names or {}).get(key, "")))
    if "state_dir" not in found and (given := os.environ.get("STATE_DIRECTORY", "").split(":")[0]):
        found["state_dir"] = (given, OWN_FOLDER)
    for key, (_, origin) in found.items():
        _check_key(key, origin)
    return Config(_validated(found), {key: origin for key, (_, origin) in found.items()}, file)


def find_file(path: Path | None = None) -> Path | None:
    """The configuration file in force; one that was asked for must be there."""
    named = path or (Path(os.environ["WINDROW_CONFIG"]) if os.environ.get("WINDROW_CONFIG") else None)
    if named is not None:
        if not named.is_file():
            asked = "--config" if path else "WINDROW_CONFIG"
            raise ConfigError(f"{asked} {named}: there is no such file")
        return named
    return next((file for file in (LOCAL_FILE, SYSTEM_FILE) if file.is_file()), None)


def find_url(path: Path | None = None) -> str | None:
    """The scheduler's address where environment or file name one; None where nothing is configured."""
    for variable in ("WINDROW_URL", "WINDROW_CLIENT__URL"):
        if os.environ.get(variable):
            return os.environ[variable]
    file = find_file(path)
    if file is None:
        return None
    section = _read_toml(file).get("client", {})
    url = cast("dict[str, object]", section).get("url") if isinstance(section, dict) else None
    if url is not None and not isinstance(url, str):
        raise ConfigError(f"{file}: client.url = {url!r}: must be the scheduler's address: tcp://host:port")
    return url


def _read_toml(file: Path) -> dict[str, object]:
    try:
        with file.open("rb") as stream:
            return tomllib.load(stream)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not a TOML file: {error}") from None


def _from_file(file: Path) -> _Found:
    return _flat(_read_toml(file), lambda _: Origin(OriginKind.FILE, str(file)))


def _from_environment() -> _Found:
    from pydantic_settings import EnvSettingsSource

    from windrow.common.settings_model import SECTIONS, Settings

    for variable in os.environ:
        section, nested, _ = variable.removeprefix("WINDROW_").lower().partition("__")
        if variable.startswith("WINDROW_") and nested and section not in SECTIONS:
            raise ConfigError(f"{variable}: there is no section {section!r}; there are {', '.join(SECTIONS)}")
    found = _flat(
        EnvSettingsSource(Settings)(),
        lambda key: Origin(OriginKind.ENVIRONMENT, f"WINDROW_{key.upper().replace('.', '__')}"),
    )
    for variable, keys in SHORT_NAMES.items():
        if os.environ.get(variable):
            found |= {key: (os.environ[variable], Origin(OriginKind.ENVIRONMENT, variable)) for key in keys}
    return found


def _flat(tree: Mapping[str, object], origin: _OriginOf) -> _Found:
    from windrow.common.settings_model import SECTIONS

    found: _Found = {}
    for name, value in tree.items():
        if name not in SECTIONS:
            found[name] = (value, origin(name))
            continue
        if not isinstance(value, dict):
            raise ConfigError(f"{_place(origin(name))}: {name} is a section: write [{name}] and its keys below")
        for key, entry in cast("dict[str, object]", value).items():
            found[f"{name}.{key}"] = (entry, origin(f"{name}.{key}"))
    return found


def _check_key(key: str, origin: Origin) -> None:
    from windrow.common.settings_model import SECTIONS, find_description

    if find_description(key):
        return
    section, _, name = key.rpartition(".")
    place = f"{_place(origin)}: "
    if section:
        known = list(SECTIONS[section].model_fields)
        raise ConfigError(
            f"{place}there is no setting {key}{_nearest(name, known)}; [{section}] has {', '.join(known)}"
        )
    known = ["state_dir", *SECTIONS]
    raise ConfigError(
        f"{place}there is no setting or section {name!r}{_nearest(name, known)}; there are {', '.join(known)}"
    )


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f" (did you mean {near[0]}?)" if near else ""


def _validated(found: _Found) -> Settings:
    from pydantic import ValidationError

    from windrow.common.settings_model import Settings

    tree: dict[str, object] = {}
    for key, (value, _) in found.items():
        section, _, name = key.rpartition(".")
        if section:
            cast("dict[str, object]", tree.setdefault(section, {}))[name] = value
        else:
            tree[name] = value
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise _explain(error, found) from None


def _explain(error: ValidationError, found: _Found) -> ConfigError:
    """One line: the place, the setting, its value, and what is allowed."""
    from windrow.common.settings_model import find_description

    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"][:2] if isinstance(part, str))
    context = first.get("ctx", {})
    allowed = str(context["error"]) if first["type"] == "value_error" else find_description(key)
    if key not in found:
        # A rule over several keys of a section: the place is that of any of them which was given.
        places = [_place(origin) for name, (_, origin) in found.items() if name.startswith(f"{key}.")]
        return ConfigError(f"{places[0] if places else 'settings'}: [{key}] {allowed}")
    value, origin = found[key]
    shown = re.sub(r"\s+", " ", redact_url(repr(value)))
    shown = shown if len(shown) <= 80 else shown[:77] + "…"
    must = "" if first["type"] == "value_error" else "must be "
    return ConfigError(f"{_place(origin)}: {key} = {shown}: {must}{allowed}")


def _place(origin: Origin) -> str:
    return origin.place or "command line"
