"""Tells paths from URLs, and shows either without what nobody else may read; pure."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from windrow.common.errors import ExportError
from windrow.common.redact import redact_url

_URL = re.compile(r"(?:[a-zA-Z0-9+.-]+::)*[a-zA-Z][a-zA-Z0-9+.-]*://")


def is_url(text: str) -> bool:
    """Whether this goes by way of fsspec."""
    return local_path(text) is None


def local_path(text: str) -> str | None:
    """The path that is meant; None for what lies elsewhere."""
    if not _URL.match(text):
        return text
    scheme = text.partition("://")[0].lower()
    if scheme == "local":
        return text.partition("://")[2]
    if scheme != "file":
        return None
    host = urlsplit(text).netloc
    if host not in ("", "localhost"):
        raise ExportError(f"{shown(text)} is on another machine: mount it, and write file:///path or the path alone")
    return unquote(text.partition("://")[2].removeprefix(host))


def scheme_of(url: str) -> str:
    """What stands before ://, the last of several."""
    return url.partition("://")[0].rpartition("::")[2].lower()


def shown(url: str) -> str:
    """For messages and manifests: without who logs in, and without the query, in which signatures stand."""
    if not _URL.match(url):
        return url
    plain, mark, _ = redact_url(url).partition("?")
    # In a pattern a ? stands for a character, and only http has queries.
    return f"{plain}?…" if mark and scheme_of(url) in ("http", "https") else redact_url(url)


def file_name(url: str) -> str:
    """The last part of a path or URL, without passwords and queries."""
    path = local_path(url)
    return (path if path is not None else redact_url(url).partition("?")[0]).rstrip("/").rpartition("/")[2] or url
