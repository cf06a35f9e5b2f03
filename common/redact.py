"""Takes passwords out of text before anybody sees it: the userinfo of URLs, and passwords and signatures in queries."""

from __future__ import annotations

import re

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
        text = _USERINFO.sub(r"\g<scheme>***@", text)
    return _PASSWORD.sub(r"\g<name>***", text) if "=" in text else text
