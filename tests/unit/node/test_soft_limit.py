"""The soft limit around a call."""

from __future__ import annotations

import signal
import time

import pytest

from windrow.common.errors import SoftTimeout
from windrow.node.soft_limit import soft_limit


def spin(seconds: float) -> str:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return "done"


def test_a_call_over_the_limit_is_interrupted_and_the_next_has_its_own() -> None:
    with soft_limit(spin, 0.05) as limited:
        with pytest.raises(SoftTimeout, match=r"0\.05 s"):
            limited(10.0)
        assert limited(0.0) == "done"
        since = time.monotonic()
        with pytest.raises(SoftTimeout):
            limited(10.0)
        assert time.monotonic() - since < 5


def test_an_alarm_after_the_call_is_nobodys() -> None:
    with soft_limit(spin, 5.0) as limited:
        limited(0.0)
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
        signal.raise_signal(signal.SIGALRM)


def test_the_handler_before_is_put_back() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with soft_limit(spin, 1.0):
        assert signal.getsignal(signal.SIGALRM) is not before
    assert signal.getsignal(signal.SIGALRM) is before


def test_what_the_function_raises_comes_out() -> None:
    def fails() -> None:
        raise KeyError("x")

    with soft_limit(fails, 1.0) as limited, pytest.raises(KeyError):
        limited()
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
