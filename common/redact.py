"""Takes passwords out of text before anybody sees it: the userinfo of URLs, and passwords and signatures in queries."""

from __future__ import annotations

import re

from windrow.common.broker_urls import split_broker_urls

_USERINFO = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*://)[^\s'\"<>]*@")
_PASSWORD = re.compile(
    r"(?P<name>(?:password|passwd|pwd|secret|token|signature|credential|access_?key_?id|accessid|api[_-]?key|\bsig"
    r"|(?<=[?&])key)=)[^\s&'\"]+",
    re.IGNORECASE,
)
"""Signed URLs carry what lets in under such names; what stands before them belongs to the name (X-Amz-Signature)."""


def redact_url(text: str) -> str:
    """`text` with the userinfo of every URL in it as `***`; text without URLs comes back as it is."""
    # Up to the last @ of the word: a password may hold an unescaped / or @, and hiding too much is the safe side.
    if "@" in text:
        text = _USERINFO.sub(_hide, text)
    return _PASSWORD.sub(r"\g<name>***", text) if "=" in text else text


def _hide(found: re.Match[str]) -> str:
    """Of a list of brokers each host stays; where one of them has no @, its end may be a part of a password."""
    urls: tuple[str, ...] = split_broker_urls(found[0])
    if not all("@" in url for url in urls):
        urls = (found[0],)
    return ",".join(f"{url.partition('://')[0]}://***@{url.rpartition('@')[2]}" for url in urls)
