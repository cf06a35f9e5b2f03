"""A minute of chaos on each way of dispatch: real processes under faults, and everything counted at the end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.chaos.plan import Dispatch
from tests.chaos.run import Asked, run_chaos, show
from tests.chaos.works import BY_NAME

pytestmark = [
    pytest.mark.integration,
    # Jobs are started while no node is there.
    pytest.mark.filterwarnings("ignore::windrow.WindrowWarning"),
]

FAULTS_S = 14.0
"""With the start of the cluster and the end of the work this takes half a minute."""
SEED = 13
GAP_S = (0.7, 2.0)


@pytest.mark.parametrize("dispatch", ["amqp", "local"])
def test_every_item_is_committed_once_and_right_after_chaos(tmp_path: Path, dispatch: Dispatch) -> None:
    found = run_chaos(Asked(SEED, FAULTS_S, dispatch, tmp_path / "chaos", nodes=2, gap_s=GAP_S))
    assert not found.findings, show(found)
    assert len(found.done) >= 5, "hardly anything was broken"
    assert all(row.values for row in found.works if not BY_NAME[row.work].cancelled)
    assert {row["work"] for row in json.loads(found.as_json())["works"]} == {row.work for row in found.works}
