"""Dramatiq: the actor that its workers load, and its client."""

import dramatiq
import measuring
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

broker = RabbitmqBroker(url=measuring.BROKER, confirm_delivery=measuring.SAFE)
broker.add_middleware(Results(backend=RedisBackend(url=measuring.RESULTS)))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True, queue_name="bench-dramatiq")
def same(x):
    return x


def result_of(message):
    return message.get_result(block=True, timeout=600_000)


def main():
    kind, count = measuring.asked()
    for message in [same.send(x) for x in range(50)]:
        result_of(message)
    if kind == "round-trip":
        measuring.say(**measuring.trips_of(count, lambda x: result_of(same.send(x))))
    else:
        measuring.say(
            **measuring.rate_of(count, lambda: [result_of(sent) for sent in [same.send(x) for x in range(count)]])
        )


if __name__ == "__main__":
    main()
