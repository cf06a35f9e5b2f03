"""Dask distributed: two workers of one thread, and the client."""

import measuring
from distributed import Client, LocalCluster


def same(x):
    return x


def main():
    kind, count = measuring.asked()
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.gather([client.submit(same, x, pure=False) for x in range(50)])
        if kind == "round-trip":
            trip = measuring.trips_of(count, lambda x: client.submit(same, x, pure=False).result())
            measuring.say(**trip)
        else:
            measuring.say(
                **measuring.rate_of(
                    count, lambda: client.gather([client.submit(same, x, pure=False) for x in range(count)])
                )
            )


if __name__ == "__main__":
    main()
