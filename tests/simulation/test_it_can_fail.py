"""The simulation finds each protection that is missing, within 200 seeds, and by what it asks of every run."""

from __future__ import annotations

import pytest

from tests.simulation.protections import ALL, without
from tests.simulation.scenario import draw_scenario
from tests.simulation.world import run_scenario

pytestmark = pytest.mark.faults

SEEDS = 200
FOUND_BY: dict[str, int] = {}
"""The first seed that tells, where that is late: so far it is looked no earlier. See docs/reliability.md."""


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_protection_that_is_missing_is_found(name: str) -> None:
    with without(name):
        for seed in range(FOUND_BY.get(name, 0), SEEDS):
            finding, _ = run_scenario(draw_scenario(seed))
            if finding is not None:
                return
    pytest.fail(f"{SEEDS} seeds without {name}, and nothing was found: the simulation is too weak")
