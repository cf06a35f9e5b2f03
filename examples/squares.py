# squares.py
from mytasks import square

from windrow import Client

with Client() as client:
    print(client.submit(square, 7).result(timeout=30))
    job = client.start(square, range(100_000), name="squares")
    print(job.wait(timeout=60).done, sum(job.results()))
