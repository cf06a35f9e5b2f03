"""Celery: the application that its workers load, and its client."""

import celery
import measuring

app = celery.Celery("bench", broker=measuring.BROKER, backend=measuring.RESULTS)
app.conf.task_default_queue = "bench-celery"
app.conf.broker_connection_retry_on_startup = True
if measuring.SAFE:
    app.conf.broker_transport_options = {"confirm_publish": True}
    app.conf.task_acks_late = True
    app.conf.task_reject_on_worker_lost = True


@app.task(name="same")
def same(x):
    return x


def main():
    kind, count = measuring.asked()
    celery.group(same.s(x) for x in range(50)).apply_async().get(timeout=60)
    if kind == "round-trip":
        measuring.say(**measuring.trips_of(count, lambda x: same.delay(x).get(timeout=60)))
    elif kind == "job":
        measuring.say(**measuring.rate_of(count, lambda: celery.group(same.s(x) for x in range(count))().get()))
    else:
        measuring.say(
            **measuring.rate_of(count, lambda: [each.get() for each in [same.delay(x) for x in range(count)]])
        )


if __name__ == "__main__":
    main()
