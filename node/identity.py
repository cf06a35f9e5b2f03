"""Who this node is: a random id in its state folder, locked so that one daemon has it at a time."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from windrow.common.errors import ConfigError
from windrow.common.words import NodeId


@dataclass(frozen=True, slots=True)
class Identity:
    """The node's id, the name of this start, and the descriptor that holds the lock."""

    node: NodeId
    boot: str
    lock_fd: int

    def release(self) -> None:
        """Let another daemon have the folder."""
        os.close(self.lock_fd)


def lock_identity(state_dir: Path) -> Identity:
    """Take the folder; ConfigError says who has it, or why it cannot be used."""
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        fd = os.open(state_dir / "node.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(
            f"the state folder {state_dir} cannot be used: {error.strerror}; give another with --state"
        ) from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        owner = os.pread(fd, 32, 0).decode(errors="replace").strip()
        os.close(fd)
        raise ConfigError(
            f"another node daemon (pid {owner or 'unknown'}) uses the state folder {state_dir}: "
            "stop it, or give this one a folder of its own with --state"
        ) from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    try:
        node = _read_or_draw(state_dir / "node.id")
    except ConfigError:
        os.close(fd)
        raise
    return Identity(node, secrets.token_hex(8), fd)


def _read_or_draw(path: Path) -> NodeId:
    try:
        text = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        text = secrets.token_hex(8)
        fresh = path.with_suffix(".new")
        with fresh.open("w", encoding="ascii") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read ({error}); remove it to get a new node id") from None
    if not re.fullmatch(r"[0-9a-z]{16}", text):
        raise ConfigError(f"{path} does not hold a node id; remove it to get a new one")
    return NodeId(text)
