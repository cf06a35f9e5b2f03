"""Whatever goes wrong, every item is accounted for exactly once, blame is just, and every job comes to its end."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from tests.simulation.__main__ import run_seeds
from tests.simulation.scenario import (
    Fault,
    FaultKind,
    JobPlan,
    NodePlan,
    Scenario,
    Shape,
    draw_scenario,
    from_json,
    to_json,
)
from tests.simulation.shrink import shrink
from tests.simulation.world import World, run_scenario

SEEDS = int(os.environ.get("WINDROW_SIM_SEEDS", "200"))
FIRST = int(os.environ.get("WINDROW_SIM_FIRST_SEED", "0"))
KEPT = sorted((Path(__file__).parent / "kept").glob("*.json"))


def test_every_item_is_accounted_for_exactly_once() -> None:
    found = run_seeds(FIRST, SEEDS)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_what_was_found_once_is_not_found_again(path: Path) -> None:
    finding, _ = run_scenario(from_json(json.dumps(json.loads(path.read_text())["scenario"])))
    assert finding is None


def test_one_seed_gives_the_same_run_each_time() -> None:
    histories: list[list[object]] = []
    for _ in range(2):
        finding, world = run_scenario(draw_scenario(3), noting=True)
        assert finding is None
        histories.append(list(world.truth.notes or ()))
    assert len(histories[0]) > 100
    assert histories[0] == histories[1]


def test_a_scenario_survives_being_written_down() -> None:
    for seed in range(20):
        assert from_json(to_json(draw_scenario(seed))) == draw_scenario(seed)


def test_the_first_seeds_have_every_kind_of_fault() -> None:
    drawn = {fault.kind for seed in range(100) for fault in draw_scenario(seed).faults}
    assert drawn == set(FaultKind)


def test_shrinking_leaves_what_the_failure_needs() -> None:
    def fails(scenario: Scenario) -> bool:
        return any(fault.kind is FaultKind.BROKER_WIPE for fault in scenario.faults) and len(scenario.jobs) > 1

    seed = next(seed for seed in range(100) if fails(draw_scenario(seed)) and len(draw_scenario(seed).faults) > 3)
    small = shrink(draw_scenario(seed), fails)
    assert [type(fault) for fault in small.faults] == [Fault]
    assert len(small.jobs) == 2
    assert {job.items for job in small.jobs} <= {0, 1}
    assert (small.lose, small.repeat, len(small.nodes)) == (0.0, 0.0, 1)


def run_calmly(job: JobPlan, *nodes: NodePlan) -> World:
    """One job while nothing goes wrong."""
    finding, world = run_scenario(Scenario(1, "amqp", 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, nodes, (job,), ()))
    assert finding is None
    return world


@pytest.mark.parametrize("nodes", [(NodePlan(2),), (NodePlan(1), NodePlan(1))], ids=["one node", "two nodes"])
def test_items_of_wild_lengths_end_within_five_percent_of_the_possible(nodes: tuple[NodePlan, ...]) -> None:
    dice = random.Random(3)
    lengths_s = tuple(min(5.0, max(0.001, 0.02 * dice.lognormvariate(0.0, 1.5))) for _ in range(600))
    world = run_calmly(JobPlan(Shape.NUMBERS, len(lengths_s), lengths_s=lengths_s), *nodes)
    runs = [run for each in world.truth.runs.values() for run in each]
    took_s = max(run.ended or 0.0 for run in runs) - min(run.started for run in runs)
    assert took_s <= 1.05 * max(sum(lengths_s) / 2, max(lengths_s))


def test_outcomes_of_a_chunk_that_goes_on_share_reports() -> None:
    world = run_calmly(JobPlan(Shape.NUMBERS, 2000, item_s=0.001), NodePlan(2))
    # Start, chunks and their ends take some thirty; with a report for each feed of 50 ms it would be a hundred.
    assert world.schedulers[-1].loop.engine.counts.commits < 60
