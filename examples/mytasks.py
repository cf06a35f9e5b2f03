# mytasks.py
from windrow import task


@task(retries=2)
def square(x):
    return x * x
