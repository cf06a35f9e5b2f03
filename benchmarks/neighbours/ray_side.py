"""Ray: two processors, and the driver."""

import measuring
import ray


@ray.remote
def same(x):
    return x


def main():
    kind, count = measuring.asked()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
    ray.get([same.remote(x) for x in range(200)])
    if kind == "round-trip":
        measuring.say(**measuring.trips_of(count, lambda x: ray.get(same.remote(x))))
    else:
        measuring.say(**measuring.rate_of(count, lambda: ray.get([same.remote(x) for x in range(count)])))
    ray.shutdown()


if __name__ == "__main__":
    main()
