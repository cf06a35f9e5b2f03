"""The core survives lossy links, dying nodes, brokers and schedulers: every item is accounted for exactly once."""

from __future__ import annotations

import os
import random

import pytest

from tests.simulation.world import Client, Faults, World, expect_exact_end
from windrow.common.options import OnLost, Options
from windrow.common.words import JobId

SEEDS = int(os.environ.get("WINDROW_SIM_SEEDS", "200"))
FIRST = int(os.environ.get("WINDROW_SIM_FIRST_SEED", "0"))


def run_seed(seed: int) -> World:
    dice = random.Random(f"workload {seed}")
    world = World(seed, Faults(until_s=dice.uniform(5, 40), crash_every_s=dice.uniform(2, 10)))
    for number in range(dice.randint(1, 4)):
        kind = dice.choices(("job", "killer", "once"), (8, 1, 2))[0]
        options = Options(
            retries=0 if kind == "once" else dice.choice((0, 1, 3)),
            backoff_s=0.5,
            on_lost=OnLost.FAIL if kind == "once" else None,
            max_failures=dice.randint(0, 5) if dice.random() < 0.1 else None,
        )
        Client(
            world,
            JobId(f"{kind}{number}"),
            int(dice.choice((0, 1, 10, 300, 1000)) * dice.random()) + dice.randint(0, 1),
            by_append=dice.random() < 0.5,
            options=options,
            cancel=dice.random() < 0.15,
            pause=dice.random() < 0.15,
        )
    world.run(until_s=900.0)
    expect_exact_end(world)
    return world


@pytest.mark.parametrize("block", range(10))
def test_every_item_is_accounted_for_exactly_once(block: int) -> None:
    for seed in range(FIRST + block, FIRST + SEEDS, 10):
        try:
            run_seed(seed)
        except Exception as error:
            again = f"WINDROW_SIM_FIRST_SEED={seed} WINDROW_SIM_SEEDS=1"
            raise AssertionError(f"seed {seed} found: {error!r}; repeat it with {again}") from error
