"""Loads the tasks that a node offers, inside a worker: modules, packages, files, and modules allowed whole."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import pkgutil
import sys
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from windrow.common.limits import NAME_CHARS_MAX
from windrow.common.messages import SourceError, TaskInfo
from windrow.common.options import Options
from windrow.common.tasks import registered_tasks
from windrow.common.words import COMMAND_TASK

BUILTIN_SOURCE = "windrow.export.tasks"
COMMAND_SOURCE = "windrow.run.tasks"
TASKS_MAX = 10_000
ERRORS_MAX = 256
_ERROR_CHARS_MAX = 1_000
_INSTALLED_FOLDERS = frozenset({"site-packages", "dist-packages"})

Function = Callable[..., object]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of the sources."""

    functions: dict[str, Function]
    tasks: tuple[TaskInfo, ...]
    errors: tuple[SourceError, ...]


def load_sources(sources: Iterable[str], allow: Iterable[str], *, allow_commands: bool = False) -> Loaded:
    """Import everything; what fails is told in `errors` and hides nothing else."""
    # First, as for a script of the user's own: a project's `common` is meant before anybody else's.
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.insert(0, os.getcwd())
    errors: list[SourceError] = []
    for source in sources:
        _attempt(source, _load_source, errors)
    _load_builtin(errors)
    if allow_commands:
        _attempt(COMMAND_SOURCE, importlib.import_module, errors)
    functions: dict[str, Function] = {}
    options: dict[str, Options] = {}
    for module in allow:
        _attempt(module, lambda name: functions.update(_plain_functions(name)), errors)
    for name, task in registered_tasks().items():
        if name == COMMAND_TASK and not allow_commands:
            continue  # Some module of the user's has imported it: that is no leave to run commands.
        functions[name] = task.function
        options[name] = task.task_options
    versions = _Versions()
    infos = [
        TaskInfo(name, versions.of(function), options.get(name, Options()))
        for name, function in sorted(functions.items())
        if len(name) <= NAME_CHARS_MAX
    ]
    if len(infos) > TASKS_MAX:
        errors.append(SourceError("--tasks", f"{len(infos)} tasks found; only the first {TASKS_MAX} are offered"))
    return Loaded(functions, tuple(infos[:TASKS_MAX]), tuple(errors[:ERRORS_MAX]))


def _attempt(source: str, load: Callable[[str], object], errors: list[SourceError]) -> None:
    try:
        load(source)
    except BaseException as error:  # User code: SystemExit and KeyboardInterrupt from it are its failures too.
        errors.append(SourceError(source[:NAME_CHARS_MAX], error_line(error)))


def _load_source(source: str) -> None:
    if source.endswith(".py") or os.sep in source:
        _load_file(Path(source))
        return
    module = importlib.import_module(source)
    for name in _task_modules(module):
        importlib.import_module(name)


def _load_file(path: Path) -> None:
    path = path.resolve()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    stem = path.stem
    there = sys.modules.get(stem)
    if there is not None:
        if getattr(there, "__file__", None) == str(path):
            return
        raise ImportError(f"a module named {stem} is loaded already; rename the file {path.name}")
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[stem]
        raise


def _task_modules(package: types.ModuleType) -> list[str]:
    """The modules below a package that are called `tasks`, or lie in a package called `tasks`."""
    if not hasattr(package, "__path__"):
        return []
    prefix = package.__name__ + "."

    def fail(name: str) -> None:
        raise ImportError(f"{name} failed to import: {error_line(sys.exc_info()[1])}")

    found = pkgutil.walk_packages(package.__path__, prefix, onerror=fail)
    return [entry.name for entry in found if "tasks" in entry.name.removeprefix(prefix).split(".")]


def _load_builtin(errors: list[SourceError]) -> None:
    """The export's tasks come with every node that has the export extra installed."""
    try:
        importlib.import_module(BUILTIN_SOURCE)
    except ModuleNotFoundError as error:
        optional = {"pyarrow", "duckdb"}
        name = error.name or ""
        if name.split(".")[0] not in optional and name not in {"windrow.export", BUILTIN_SOURCE}:
            errors.append(SourceError(BUILTIN_SOURCE, error_line(error)))
    except Exception as error:
        errors.append(SourceError(BUILTIN_SOURCE, error_line(error)))


def _plain_functions(name: str) -> dict[str, Function]:
    """The public functions that the module itself defines, by `module:name`; what it imported is not allowed."""
    module = importlib.import_module(name)
    kinds = (types.FunctionType, types.BuiltinFunctionType)
    return {
        f"{name}:{key}": value
        for key, value in vars(module).items()
        if not key.startswith("_") and isinstance(value, kinds) and value.__module__ == name
    }


def error_line(error: BaseException | None) -> str:
    """The error in one line, with the place in the user's file where it was raised."""
    if error is None:
        return "unknown error"
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = ""
    name = type(error).__name__
    line = f"{name}: {text}" if text else name
    place = _find_place(error)
    if place and place not in line:
        line = f"{line} ({place})"
    return line[:_ERROR_CHARS_MAX].encode("utf-8", "backslashreplace").decode()


def _find_place(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return ""  # Its text says so already.
    place = ""
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith("<") and file != __file__ and f"{os.sep}importlib{os.sep}" not in file:
            place = f"{Path(file).name}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return place


class _Versions:
    """Code versions: the distribution's where the module is installed, else a short hash of its file."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._distributions: dict[str, list[str]] | None = None

    def of(self, function: Function) -> str:
        module = getattr(function, "__module__", None) or ""
        if module not in self._known:
            self._known[module] = self._find(module)[:NAME_CHARS_MAX]
        return self._known[module]

    def _find(self, module: str) -> str:
        file = getattr(sys.modules.get(module), "__file__", None)
        if not isinstance(file, str):
            return ""
        path = Path(file)
        if _INSTALLED_FOLDERS & set(path.parts):
            version = self._find_distribution(module.partition(".")[0])
            if version:
                return version
        try:
            return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        except OSError:
            return ""

    def _find_distribution(self, top: str) -> str:
        if self._distributions is None:
            self._distributions = dict(importlib.metadata.packages_distributions())
        names = self._distributions.get(top, [])
        return f"{names[0]} {importlib.metadata.version(names[0])}" if names else ""
