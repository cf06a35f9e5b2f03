"""Chunk messages that the broker has not confirmed yet: which delivery tag is whose, and until when we wait."""

from __future__ import annotations

from windrow.common.words import Fence


class Unconfirmed:
    """Each accepted fence leaves exactly once: confirmed, dropped, expired or cleared."""

    __slots__ = ("_deadlines", "_fences", "_last_tag", "_tags")

    def __init__(self) -> None:
        self._deadlines: dict[Fence, float] = {}
        """In the order of acceptance; all wait equally long, so in the order of deadlines too."""
        self._tags: dict[Fence, int] = {}
        self._fences: dict[int, Fence] = {}
        """By delivery tag, ascending."""
        self._last_tag = 0

    def __len__(self) -> int:
        return len(self._deadlines)

    def __contains__(self, fence: Fence) -> bool:
        return fence in self._deadlines

    @property
    def first_deadline_s(self) -> float | None:
        return next(iter(self._deadlines.values()), None)

    def accept(self, fence: Fence, deadline_s: float) -> None:
        """Wait for this fence; it is published now or once its queue is declared."""
        self._deadlines[fence] = deadline_s

    def published(self, fence: Fence) -> None:
        """The next message of the channel carries this fence."""
        self._last_tag += 1
        self._fences[self._last_tag] = fence
        self._tags[fence] = self._last_tag

    def confirmed(self, tag: int, *, multiple: bool) -> list[Fence]:
        """The fences that this ack or nack of the broker is about; those given up before are not among them."""
        if not multiple:
            tags = [tag] if tag in self._fences else []
        else:
            tags = list[int]()
            for waiting in self._fences:
                if waiting > tag:
                    break
                tags.append(waiting)
        found = [self._fences[each] for each in tags]
        for fence in found:
            self.drop(fence)
        return found

    def drop(self, fence: Fence) -> bool:
        """Wait no longer for this fence; False where nobody waited."""
        tag = self._tags.pop(fence, None)
        if tag is not None:
            del self._fences[tag]
        return self._deadlines.pop(fence, None) is not None

    def expired(self, now_s: float) -> list[Fence]:
        """The fences whose time is up; nobody waits for them any more."""
        found: list[Fence] = []
        for fence, deadline_s in self._deadlines.items():
            if deadline_s > now_s:
                break
            found.append(fence)
        for fence in found:
            self.drop(fence)
        return found

    def clear(self) -> list[Fence]:
        """Everything that was waited for; the tags of the next channel begin anew."""
        left = list(self._deadlines)
        self._deadlines.clear()
        self._tags.clear()
        self._fences.clear()
        self._last_tag = 0
        return left
