"""The node's identity and its lock."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from windrow.common.errors import ConfigError
from windrow.node.identity import lock_identity


def test_the_id_stays_and_the_boot_changes(tmp_path: Path) -> None:
    first = lock_identity(tmp_path / "state")
    first.release()
    second = lock_identity(tmp_path / "state")
    second.release()
    assert first.node == second.node
    assert first.boot != second.boot


def test_a_locked_folder_is_refused_and_says_by_whom(tmp_path: Path) -> None:
    first = lock_identity(tmp_path)
    try:
        with pytest.raises(ConfigError, match=f"pid {os.getpid()}"):
            lock_identity(tmp_path)
    finally:
        first.release()


def test_a_damaged_id_is_refused_and_the_lock_let_go(tmp_path: Path) -> None:
    (tmp_path / "node.id").write_text("???")
    for _ in range(2):
        with pytest.raises(ConfigError, match="remove it"):
            lock_identity(tmp_path)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="--state"):
        lock_identity(tmp_path / "file" / "state")
