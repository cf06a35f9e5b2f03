"""Settings: who wins, where each value comes from, and what a wrong one is answered with."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from windrow.cli.settings import node_settings, scheduler_settings
from windrow.common import config as config_module
from windrow.common.broker_urls import split_broker_urls
from windrow.common.config import find_url, load_config
from windrow.common.errors import ConfigError


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variables, no files."""
    for name in [name for name in os.environ if name.startswith("WINDROW_")] + ["STATE_DIRECTORY", "XDG_STATE_HOME"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(config_module, "SYSTEM_FILE", tmp_path / "etc.toml")
    monkeypatch.chdir(tmp_path)


def refused(flags: Mapping[str, object] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(None, flags)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_without_anything_the_defaults_hold(tmp_path: Path) -> None:
    config = load_config()
    assert config.client.url == "tcp://127.0.0.1:7600"
    assert (config.scheduler.port, config.scheduler.http_port) == (7600, 7680)
    assert config.state_dir == tmp_path / "home/.local/state/windrow"
    assert config.file is None
    assert {str(entry.origin) for entry in config.entries()} == {"default"}


def test_flags_beat_environment_beats_file_beats_defaults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Path("windrow.toml").write_text("[scheduler]\nport = 1\nheartbeat_s = 2\nlease_s = 7.5\n[node]\nslots = 3\n")
    monkeypatch.setenv("WINDROW_SCHEDULER__PORT", "2")
    monkeypatch.setenv("WINDROW_SCHEDULER__HEARTBEAT_S", "3.5")
    config = load_config(None, {"scheduler.port": "4", "scheduler.bind": None}, {"scheduler.port": "--port"})
    assert (config.scheduler.port, config.scheduler.heartbeat_s, config.scheduler.lease_s) == (4, 3.5, 7.5)
    assert str(config.origin("scheduler.port")) == "flag --port"
    assert str(config.origin("scheduler.heartbeat_s")) == "env WINDROW_SCHEDULER__HEARTBEAT_S"
    assert str(config.origin("scheduler.lease_s")) == "file windrow.toml"
    assert str(config.origin("scheduler.bind")) == "default"


def test_the_file_is_the_flag_s_then_the_variable_s_then_the_folder_s_then_the_system_s(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def port(path: Path | None = None) -> int:
        return load_config(path).scheduler.port

    for name, number in (("etc.toml", 4), ("windrow.toml", 3), ("variable.toml", 2), ("flag.toml", 1)):
        (tmp_path / name).write_text(f"[scheduler]\nport = {number}\n")
    monkeypatch.setenv("WINDROW_CONFIG", str(tmp_path / "variable.toml"))
    assert port(tmp_path / "flag.toml") == 1
    assert port() == 2
    monkeypatch.delenv("WINDROW_CONFIG")
    assert port() == 3
    Path("windrow.toml").unlink()
    assert port() == 4


def test_short_variables_set_what_they_are_named_after(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WINDROW_URL", "tcp://far:1")
    monkeypatch.setenv("WINDROW_AMQP_URL", "amqp://u:p@broker/v")
    monkeypatch.setenv("WINDROW_STORE_URL", "sqlite:////data/windrow.db")
    monkeypatch.setenv("WINDROW_STATE_DIR", "~/state")
    config = load_config()
    assert config.client.url == "tcp://far:1"
    assert config.scheduler.amqp_url == config.node.amqp_url == "amqp://u:p@broker/v"
    assert config.scheduler.store_url == "sqlite:////data/windrow.db"
    assert config.state_dir == tmp_path / "home/state"
    assert str(config.origin("scheduler.amqp_url")) == "env WINDROW_AMQP_URL"


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDROW_URL", "")
    monkeypatch.setenv("WINDROW_SCHEDULER__PORT", "")
    assert load_config().scheduler.port == 7600
    assert find_url() is None


def test_passwords_are_not_shown() -> None:
    url = "amqp://user:hunter2@broker/v"
    flags = {"scheduler.amqp_url": url, "node.amqp_url": url}
    shown = {entry.key: entry.value for entry in load_config(None, flags).entries()}
    assert shown["scheduler.amqp_url"] == "amqp://***@broker/v"
    assert not [value for value in shown.values() if "hunter2" in value]
    assert "hunter2" not in refused({"scheduler.amqp_url": "http://user:hunter2@broker"})
    assert "hunter2" not in refused({"scheduler.store_url": "postgresql://u:hunter2@db/x"})


def test_a_cluster_of_brokers_is_several_addresses_and_no_password_of_them_is_shown() -> None:
    flags = {"scheduler.amqp_url": "amqp://u:hunter2@one/v, amqps://u:hunter2@two:5671/v"}
    config = load_config(None, flags)
    assert split_broker_urls(config.scheduler.amqp_url) == ("amqp://u:hunter2@one/v", "amqps://u:hunter2@two:5671/v")
    shown = {entry.key: entry.value for entry in config.entries()}
    assert shown["scheduler.amqp_url"] == "amqp://***@one/v,amqps://***@two:5671/v"
    for wrong in ("amqp://one,http://two", "amqp://one,", "local:,amqp://one", "amqp://one,local:"):
        assert "must be the address of a RabbitMQ" in refused({"scheduler.amqp_url": wrong})


def test_lists_and_labels_come_as_text_or_as_toml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDROW_NODE__QUEUES", "a, b")
    monkeypatch.setenv("WINDROW_NODE__LABELS", "zone=x,gpu=yes")
    node = load_config().node
    assert node.queues == ("a", "b")
    assert node.labels == {"zone": "x", "gpu": "yes"}
    monkeypatch.delenv("WINDROW_NODE__LABELS")
    Path("windrow.toml").write_text('[node]\ntasks = ["m", "n"]\nlabels = {zone = "y"}\n')
    node = load_config().node
    assert node.tasks == ("m", "n")
    assert node.labels == {"zone": "y"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[scheduler]\nprot = 1\n",
            "windrow.toml: there is no setting scheduler.prot (did you mean port?); [scheduler] has",
        ),
        (
            "[scheduller]\nport = 1\n",
            "windrow.toml: there is no setting or section 'scheduller' (did you mean scheduler?)",
        ),
        ("port = 1\n", "windrow.toml: there is no setting or section 'port'"),
        ("scheduler = 1\n", "windrow.toml: scheduler is a section"),
        ("[scheduler]\nport = 70000\n", "windrow.toml: scheduler.port = 70000: must be a port, 0 to 65535"),
        ("[scheduler]\nport = true\n", "windrow.toml: scheduler.port = True: must be a number"),
        ("[scheduler]\nlease_s = 1\n", "windrow.toml: [scheduler] lease_s (1) must be at least twice"),
        ("[node]\nslots = 0\n", "windrow.toml: node.slots = 0: must be a number of worker processes, 1 to 4096"),
        ("[node]\nlabels = {a = [1]}\n", "windrow.toml: node.labels ="),
        ('[log]\nlevel = "loud"\n', "windrow.toml: log.level = 'loud': must be debug, info, warning or error"),
        ("[scheduler\n", "windrow.toml: not a TOML file:"),
        ("[client]\nurl = 5\n", "windrow.toml: client.url = 5: must be the scheduler's address: tcp://host:port"),
    ],
)
def test_a_wrong_file_is_answered_with_place_value_and_what_is_allowed(text: str, expected: str) -> None:
    Path("windrow.toml").write_text(text)
    assert refused().startswith(expected)


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDROW_SCHEDULER__PORT", "many")
    assert refused() == "WINDROW_SCHEDULER__PORT: scheduler.port = 'many': must be a port, 0 to 65535 (0: any free one)"
    monkeypatch.delenv("WINDROW_SCHEDULER__PORT")
    monkeypatch.setenv("WINDROW_SCHEDULER__PROT", "1")
    assert "there is no setting scheduler.prot" in refused()
    monkeypatch.delenv("WINDROW_SCHEDULER__PROT")
    monkeypatch.setenv("WINDROW_SCHEDULR__PORT", "1")
    assert refused().startswith("WINDROW_SCHEDULR__PORT: there is no section 'schedulr'")


def test_a_file_that_was_asked_for_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"--config none\.toml: there is no such file"):
        load_config(Path("none.toml"))
    monkeypatch.setenv("WINDROW_CONFIG", "none.toml")
    with pytest.raises(ConfigError, match=r"WINDROW_CONFIG none\.toml: there is no such file"):
        find_url()


@pytest.mark.parametrize("address", ["0.0.0.0", "192.168.1.5", "::", "example.org", ""])
def test_nothing_binds_beyond_loopback_while_there_are_no_keys(address: str) -> None:
    assert "everything binds to loopback until keys are set" in refused({"scheduler.bind": address})


@pytest.mark.parametrize(
    ("given", "used"), [("127.0.0.1", "127.0.0.1"), ("127.1.2.3", "127.1.2.3"), ("localhost", "127.0.0.1")]
)
def test_loopback_addresses_are_taken(given: str, used: str) -> None:
    assert load_config(None, {"scheduler.bind": given}).scheduler.bind == used


def test_find_url_says_none_where_nobody_named_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_url() is None
    Path("windrow.toml").write_text('[client]\nurl = "tcp://file:1"\n')
    assert find_url() == "tcp://file:1"
    monkeypatch.setenv("WINDROW_CLIENT__URL", "tcp://long:1")
    assert find_url() == "tcp://long:1"
    monkeypatch.setenv("WINDROW_URL", "tcp://short:1")
    assert find_url() == "tcp://short:1"


def test_find_url_refuses_an_address_that_is_none() -> None:
    Path("windrow.toml").write_text("[client]\nurl = 1\n")
    with pytest.raises(ConfigError, match=r"windrow\.toml: client\.url = 1"):
        find_url()


def test_finding_the_url_does_not_import_pydantic() -> None:
    code = "import sys, windrow.common.config as c; c.find_url(); sys.exit('pydantic' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


def test_the_state_folder_of_a_service_is_systemd_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/windrow:/var/lib/other")
    config = load_config()
    assert config.state_dir == scheduler_settings(config).state_dir == Path("/var/lib/windrow")
    assert str(config.origin("state_dir")) == "env STATE_DIRECTORY"
    assert load_config(None, {"state_dir": "/x"}).state_dir == Path("/x")


def test_the_state_folder_follows_xdg_where_that_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/xdg")
    assert load_config().state_dir == Path("/xdg/windrow")
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert load_config().state_dir == tmp_path / "home/.local/state/windrow"


def test_daemons_share_a_state_folder_unless_a_flag_names_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDROW_STATE_DIR", "/base")
    config = load_config()
    assert scheduler_settings(config).state_dir == Path("/base/scheduler")
    assert node_settings(config).state_dir == Path("/base/node")
    assert node_settings(load_config(None, {"state_dir": "/mine"})).state_dir == Path("/mine")


def test_every_setting_reaches_its_daemon() -> None:
    flags = {
        "client.url": "tcp://far:9",
        "scheduler.http_port": "off",
        "scheduler.queue_type": "quorum",
        "scheduler.amqp_url": "amqp://b/v",
        "scheduler.confirm_timeout_s": 2,
        "node.labels": "a=b",
        "node.slots": "5",
        "node.name": "n1",
        "node.allow": ("m",),
        "node.grace_s": 0,
        "state_dir": "/s",
    }
    config = load_config(None, flags)
    scheduler, node = scheduler_settings(config), node_settings(config)
    assert (scheduler.http_port, scheduler.queue_type, scheduler.confirm_timeout_s) == (None, "quorum", 2.0)
    assert (node.url, node.slots, node.name, node.allow, node.grace_s) == ("tcp://far:9", 5, "n1", ("m",), 0.0)
    assert node.labels == {"a": "b"}
    assert node.amqp_url == "amqp://b/v", "a node takes the scheduler's broker where it has none of its own"


@pytest.mark.parametrize(("text", "expected"), [("512M", 512 << 20), ("1.5g", 3 << 29), ("2GiB", 2 << 30), ("0", 0)])
def test_sizes_may_be_given_with_a_unit(text: str, expected: int) -> None:
    config = load_config(None, {"node.worker_memory_bytes_max": text, "node.recycle_bytes": text})
    assert node_settings(config).worker_memory_bytes_max == expected
    assert node_settings(config).recycle_bytes == expected


@pytest.mark.parametrize("text", ["10M", "lots", "-1", "true"])
def test_a_size_that_no_worker_gets_along_with_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="worker_memory_bytes_max"):
        load_config(None, {"node.worker_memory_bytes_max": text})
