"""Notices to systemd."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from windrow.common.systemd import find_watchdog_s, notify


@pytest.mark.parametrize("abstract", [False, True])
def test_notice_reaches_the_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    name = f"windrow-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name if abstract else name)
        sock.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name if abstract else name)
        notify("READY=1")
        assert sock.recv(100) == b"READY=1"


def test_without_a_socket_or_with_a_dead_one_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nothing"))
    notify("READY=1")


@pytest.mark.parametrize(
    ("usec", "pid", "expected"),
    [("20000000", "", 10.0), ("20000000", "1", None), ("", "", None), ("x", "", None), ("0", "", None)],
)
def test_watchdog_interval(monkeypatch: pytest.MonkeyPatch, usec: str, pid: str, expected: float | None) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.setenv("WATCHDOG_PID", pid)
    assert find_watchdog_s() == expected
