"""Opens file systems by URL, and says in Windrow's errors what goes wrong there: the one module that knows fsspec."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

import contextlib
import errno
from collections.abc import Generator, Iterator
from typing import Any

from windrow.common.errors import ExportError, NotSeenHere, Unreachable, WindrowError
from windrow.common.redact import redact_url
from windrow.export.locations import scheme_of, shown

_PACKAGES = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "abfss": "adlfs", "az": "adlfs",
    "adl": "adlfs", "http": "aiohttp", "https": "aiohttp", "sftp": "paramiko", "ssh": "paramiko",
    "hdfs": "pyarrow", "smb": "smbprotocol", "webhdfs": "requests", "oci": "ocifs", "oss": "ossfs",
}  # fmt: skip
_EXTRAS = {"s3fs": "s3", "aiohttp": "http"}
"""Packages that Windrow has an extra for."""
_NO_USERINFO = ("s3", "s3a", "gs", "gcs")
_HTTP = ("http", "https")
_PASSING_STATUS = (408, 409, 425, 429)
"""Answers of a server that blame the caller, and are over a moment later."""
_NO_LOGIN = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "DefaultCredentialsError")
_LASTING = (
    errno.EINVAL, errno.EPERM, errno.ENAMETOOLONG, errno.EMSGSIZE, errno.ENOSYS, errno.ENOTDIR, errno.EISDIR,
    errno.EREMCHG, errno.EROFS,
)  # fmt: skip
"""What no second attempt makes good."""
_LINE_CHARS_MAX = 300


def open_fs(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it."""
    try:
        import fsspec.core
    except ImportError:
        raise NotSeenHere(
            f"{shown(url)} needs the package fsspec: install the export extra on every node, "
            "e.g. pip install 'windrow-engine[export]'"
        ) from None
    if scheme_of(url) in _NO_USERINFO and "@" in url.partition("://")[2].partition("/")[0]:
        raise ExportError(f"{shown(url)}: credentials do not go into such a URL: set them up on every node instead")
    try:
        fs, inner = fsspec.core.url_to_fs(url, **_options(url))
    except ImportError as error:
        raise NotSeenHere(f"{shown(url)} needs another package: {_to_install(url, error)}") from None
    except ValueError as error:
        why = first_line(error)
        raise ExportError(f"{shown(url)} cannot be opened ({why}): check what stands before ://") from None
    except Exception as error:
        # Some ask for credentials at once.
        raise as_told(error, url, "source") from None
    return fs, str(inner)


def fresh_fs(url: str) -> tuple[Any, str]:
    """The same; what was listed earlier in this process may be out of date, and is forgotten."""
    fs, inner = open_fs(url)
    fs.invalidate_cache()
    return fs, inner


@contextlib.contextmanager
def told(url: str, what: str = "source") -> Generator[None, None, None]:
    """Errors of file systems as Windrow's: `what` the URL is to the export."""
    try:
        yield
    except WindrowError:
        raise
    except Exception as error:
        raise as_told(error, url, what) from None


def as_told(error: Exception, url: str, what: str) -> WindrowError:
    """What happened, to what, and what to do: ExportError for what stays so, NotSeenHere for what another node may see,
    Unreachable for what may pass.
    """
    if isinstance(error, WindrowError):
        return error
    name = f"the {what} {shown(url)}"
    verb = "read" if what == "source" else "written"
    status = find_status(error)
    if any(type(one).__name__ in _NO_LOGIN for one in _chain(error)):
        return NotSeenHere(f"{name}: no credentials were found: give them to every node, as its package asks for them")
    if isinstance(error, PermissionError) or status in (401, 403):
        kind = NotSeenHere if what == "source" else ExportError
        return kind(f"{name} cannot be {verb}: check its permissions, and the credentials of every node")
    if any(_code_of(one) == "NoSuchUpload" for one in _chain(error)):
        return Unreachable(f"the upload to {shown(url)} was aborted by somebody else: try again later")
    if status is not None and status not in (404, 410):
        if status >= 500 or status in _PASSING_STATUS:
            return Unreachable(f"{shown(url)}: the server answers {status}: try again later")
        return ExportError(f"{name} cannot be {verb}: the server answers {status} ({first_line(error)})")
    if isinstance(error, FileNotFoundError):
        if status is None and any(_is_network(one) for one in _chain(error.__cause__)):
            # fsspec calls every URL missing that it gets no answer from.
            return _unreachable(error.__cause__ or error, url, verb)
        if what == "source":
            return NotSeenHere(f"no {what} {shown(url)}: check the path; every node must see it under the same one")
        return ExportError(f"{name} cannot be written: there is no such bucket or folder, make it first")
    if isinstance(error, IsADirectoryError):
        return ExportError(f"{name} is a folder: name the files in it")
    if isinstance(error, NotImplementedError | ValueError) or type(error).__name__ == "ParamValidationError":
        return ExportError(f"{name} cannot be {verb}: {first_line(error)}")
    if isinstance(error, OSError) and error.errno in _LASTING:
        return ExportError(f"{name} cannot be {verb}: {first_line(error)}")
    # Every storage has errors of its own; most of what is left passes by itself.
    return _unreachable(error, url, verb)


def find_status(error: BaseException) -> int | None:
    """What the server has answered, as a number of HTTP."""
    for one in _chain(error):
        status = getattr(one, "status", None)
        response = getattr(one, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", status)
        if isinstance(status, int) and status >= 400:
            return status
    return None


def _code_of(error: BaseException) -> str:
    """What a store of the S3 kind calls the error."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def first_line(error: BaseException) -> str:
    """The error's own words in a line, without passwords."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return redact_url(text.partition("\n")[0])[:_LINE_CHARS_MAX] or type(error).__name__


def _unreachable(error: BaseException, url: str, verb: str) -> Unreachable:
    return Unreachable(f"{shown(url)} cannot be {verb} now ({first_line(error)}): try again later")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen = 0
    while error is not None and seen < 10:
        yield error
        error, seen = error.__cause__ or error.__context__, seen + 1


def _is_network(error: BaseException) -> bool:
    # aiohttp's own are OSErrors, or called so.
    return (isinstance(error, OSError | TimeoutError) and not isinstance(error, FileNotFoundError)) or type(
        error
    ).__name__ in ("ClientPayloadError", "ServerDisconnectedError", "ClientConnectionError", "ClientOSError")


def _options(url: str) -> dict[str, Any]:
    """What a file system must be told."""
    if scheme_of(url) not in _HTTP or "::" in url:
        return {}
    import fsspec.config

    # Ranges are counted in the bytes of the file, so no server may compress it on the way.
    given: dict[str, Any] = fsspec.config.conf.get(scheme_of(url), {})
    return {"headers": {**given.get("headers", {}), "Accept-Encoding": "identity"}}


def _to_install(url: str, error: ImportError) -> str:
    package = _PACKAGES.get(scheme_of(url))
    if package is None:
        return first_line(error)
    name = f"'windrow-engine[{_EXTRAS[package]}]'" if package in _EXTRAS else package
    return f"pip install {name} on every node"
