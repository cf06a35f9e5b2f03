"""The sample configuration under deploy/ is read as it stands, and with everything in it switched on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from windrow.common.config import load_config

SAMPLE = Path(__file__).resolve().parents[2] / "deploy" / "windrow.toml"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("WINDROW_URL", "WINDROW_AMQP_URL", "WINDROW_STORE_URL", "WINDROW_STATE_DIR", "STATE_DIRECTORY"):
        monkeypatch.delenv(variable, raising=False)


def test_the_sample_says_the_defaults() -> None:
    config = load_config(SAMPLE)
    assert (config.client.url, config.scheduler.http_port) == ("tcp://127.0.0.1:7600", 7680)


def test_every_setting_that_it_names_exists(tmp_path: Path) -> None:
    text, switched_on = re.subn(r"^#(?=\w+ = )", "", SAMPLE.read_text(), flags=re.MULTILINE)
    assert switched_on >= 8
    everything = tmp_path / "windrow.toml"
    everything.write_text(text)
    config = load_config(everything)
    assert config.node.tasks == ("mytasks",)
    assert config.node.labels == {"disk": "ssd"}
