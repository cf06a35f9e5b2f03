"""HyperQueue: its server with a worker of two cores, and the client, by the Python interface that its wheel brings."""

import sys
import time

import measuring
from hyperqueue import Job
from hyperqueue.cluster import LocalCluster, WorkerConfig


def run(client, count):
    job = Job()
    for _ in range(count):
        job.program(["true"], stdout=None, stderr=None)
    began = time.perf_counter()
    client.wait_for_jobs([client.submit(job)])
    return time.perf_counter() - began


def main():
    _, count = measuring.asked()
    with LocalCluster(sys.argv[3], WorkerConfig(cores=2)) as cluster:
        client = cluster.client()
        run(client, 20)
        measuring.say(took_s=run(client, count))


if __name__ == "__main__":
    main()
