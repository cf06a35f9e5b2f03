"""Whatever bytes a decoder is given, it takes them or refuses them in its own way, in bounded time and memory."""

from __future__ import annotations

import random
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzzing import BOMBS, decoders, feed, mutate, replace_value

NAMES = sorted(decoders())
RECORDS = [name for name in NAMES if decoders()[name].examples[0].startswith(b"{")]
SECONDS_MAX = 2.0
"""Of processor time for one message of a few kilobytes; a decoder that computes what it is told takes for ever."""
MEMORY_BYTES_MAX = 64 << 20


@pytest.mark.parametrize("name", NAMES)
def test_what_is_right_is_taken(name: str) -> None:
    assert all(feed(name, example) for example in decoders()[name].examples)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_taken_or_refused(name: str, data: bytes) -> None:
    feed(name, data)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=80, deadline=None)
@given(rng=st.randoms(use_true_random=False))
def test_a_message_with_a_few_things_wrong_is_taken_or_refused(name: str, rng: random.Random) -> None:
    examples = decoders()[name].examples
    data = mutate(rng.choice(examples), rng.choice(examples), rng)
    began = time.thread_time()
    feed(name, data)
    assert time.thread_time() - began < SECONDS_MAX


@pytest.mark.parametrize("name", RECORDS)
@settings(max_examples=60, deadline=None)
@given(rng=st.randoms(use_true_random=False))
def test_a_record_with_a_strange_value_is_taken_or_refused(name: str, rng: random.Random) -> None:
    feed(name, replace_value(rng.choice(decoders()[name].examples), rng))


@pytest.mark.parametrize("name", NAMES)
def test_a_bomb_takes_neither_time_nor_memory(name: str) -> None:
    examples = decoders()[name].examples
    bombs = [bomb * times for bomb in BOMBS for times in (1, 50)]
    bombs += [example[: len(example) // 2] + bomb for example in examples for bomb in BOMBS]
    tracemalloc.start()
    try:
        began = time.thread_time()
        for bomb in bombs:
            feed(name, bomb)
        assert time.thread_time() - began < 10 * SECONDS_MAX
        assert tracemalloc.get_traced_memory()[1] < MEMORY_BYTES_MAX
    finally:
        tracemalloc.stop()
