"""taskiq: the broker that its workers load, and its client."""

import asyncio
import time

import measuring
from taskiq_aio_pika import AioPikaBroker
from taskiq_redis import RedisAsyncResultBackend

AT_ONCE = 200
"""Calls under way to the broker at a time."""
LOOK_S = 0.001
"""How often a waiting client looks for its result (0.2 s where nobody says otherwise)."""

broker = AioPikaBroker(measuring.BROKER).with_result_backend(RedisAsyncResultBackend(measuring.RESULTS))


@broker.task(task_name="same")
async def same(x):
    return x


async def result_of(sent):
    return (await sent.wait_result(check_interval=LOOK_S, timeout=600)).return_value


async def all_of(count):
    sent = []
    for first in range(0, count, AT_ONCE):
        sent += await asyncio.gather(*(same.kiq(x) for x in range(first, min(count, first + AT_ONCE))))
    return [await result_of(each) for each in sent]


async def main():
    kind, count = measuring.asked()
    await broker.startup()
    await all_of(50)
    if kind == "round-trip":
        took_ms = []
        for number in range(count):
            began = time.perf_counter()
            assert await result_of(await same.kiq(number)) == number
            took_ms.append(1e3 * (time.perf_counter() - began))
        took_ms.sort()
        measuring.say(median_ms=took_ms[count // 2], p99_ms=took_ms[int(count * 0.99)])
    else:
        began = time.perf_counter()
        results = await all_of(count)
        took_s = time.perf_counter() - began
        assert results == list(range(count)), "a result is missing, or in the wrong place"
        measuring.say(per_s=count / took_s, took_s=took_s)
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
