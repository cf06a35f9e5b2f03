"""A control group with a memory limit: what is started in it gets killed by the kernel when it takes more."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Generator
from pathlib import Path

from tests.waiting import wait_until

_ROOT = Path("/sys/fs/cgroup")
_ENTER = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
_EMPTY_S = 10.0


class NoMemoryGroup(Exception):
    """This machine lets this user make none."""


@contextlib.contextmanager
def memory_group(bytes_max: int) -> Generator[list[str]]:
    """What to put before a command line so that the command runs in a new group with this limit."""
    parent, limit = _find_parent()
    group = parent / f"windrow-test-{secrets.token_hex(4)}"
    try:
        group.mkdir()
    except OSError as error:
        raise NoMemoryGroup(_explain(f"{group} cannot be made: {error.strerror}")) from None
    try:
        (group / limit).write_text(str(bytes_max))
        yield ["sh", "-c", _ENTER, str(group)]
        wait_until(lambda: not (group / "cgroup.procs").read_text(), _EMPTY_S, "the group to be empty")
    finally:
        with contextlib.suppress(OSError):  # Where processes are left, the test has failed already.
            group.rmdir()


def _find_parent() -> tuple[Path, str]:
    """A group that can have children with a limit of their own, and the name of the file with the limit."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        own = path.strip("/")
        if "memory" in controllers.split(","):
            shown = _ROOT / "memory" / own
            # A container may see its own group as the root, and the path of the host here.
            return (shown if shown.is_dir() else _ROOT / "memory"), "memory.limit_in_bytes"
        if not controllers and (_ROOT / "cgroup.controllers").is_file():
            # Groups with processes of their own have no children with controllers: look further up.
            for above in (_ROOT / own, *(_ROOT / own).parents):
                handed_on = above / "cgroup.subtree_control"
                if handed_on.is_file() and "memory" in handed_on.read_text().split():
                    return above, "memory.max"
    raise NoMemoryGroup(_explain("no group here hands the memory controller on to its children"))


def _explain(why: str) -> str:
    return (
        f"no control group with a memory limit can be had ({why}): run this as root, "
        "or under `systemd-run --user --scope -p Delegate=yes`"
    )
