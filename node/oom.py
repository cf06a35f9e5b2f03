"""How many processes of this node's control group the kernel has killed because memory ran out, where it tells."""

from __future__ import annotations

from collections import deque
from pathlib import Path

_RECENT_S = 5.0
_KEPT = 64
_ROOT = Path("/sys/fs/cgroup")


class OomKills:
    """Counts what came lately: look() now and then, recent() when a worker was killed."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._count = self._read()
        self._seen: deque[tuple[float, int]] = deque(maxlen=_KEPT)

    def look(self, now: float) -> None:
        """Note what is new."""
        count = self._read()
        if count is not None and self._count is not None and count > self._count:
            self._seen.append((now, count - self._count))
        if count is not None:
            self._count = count

    def find_recent(self, now: float) -> int | None:
        """Kills of the last seconds; None where the kernel does not tell."""
        self.look(now)
        if self._count is None:
            return None
        return sum(count for at, count in self._seen if now - at <= _RECENT_S)

    def _read(self) -> int | None:
        if self._path is None:
            return None
        try:
            lines = self._path.read_text().splitlines()
        except OSError:
            return None
        return next((int(line[9:]) for line in lines if line.startswith("oom_kill ") and line[9:].isdecimal()), None)


def find_oom_file(groups: str, root: Path = _ROOT) -> Path | None:
    """The file with the count, from the text of /proc/self/cgroup; None where there is none."""
    for line in groups.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if "memory" in controllers.split(","):
            candidates = [root / "memory" / below / "memory.oom_control" for below in _ends_of(group)]
        elif not controllers:
            candidates = [
                top / below / "memory.events" for top in (root, root / "unified") for below in _ends_of(group)
            ]
        else:
            continue
        for path in candidates:
            if path.is_file():
                return path
    return None


def _ends_of(group: str) -> list[str]:
    """The path and what is left of it without its first parts: a container may see its own group as the root, and the
    path of the host here."""
    parts = group.strip("/").split("/")
    return ["/".join(parts[at:]) for at in range(len(parts) + 1)]


def watch_own_group() -> OomKills:
    """For the control group that this process is in."""
    try:
        groups = Path("/proc/self/cgroup").read_text()
    except OSError:
        groups = ""
    return OomKills(find_oom_file(groups))
