"""The simulation finds each protection that is missing, within 200 seeds, and by what it asks of every run."""

from __future__ import annotations

import pytest

from tests.simulation.__main__ import run_seeds
from tests.simulation.protections import ALL

pytestmark = pytest.mark.faults

SEEDS = 200


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_protection_that_is_missing_is_found(name: str) -> None:
    found = run_seeds(0, SEEDS, processes=1, without=name)
    assert found, f"{SEEDS} seeds without {name}, and nothing was found: the simulation is too weak"
    assert found[0].startswith("seed "), found[0]
