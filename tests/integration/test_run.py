"""`windrow run` on clusters of processes: commands, their outputs, their failures and their end."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.cluster import Cluster, run_windrow, running_cluster
from tests.waiting import wait_until

pytestmark = pytest.mark.integration

PATIENCE_S = 20.0
HOLD = "echo $$ > begun-{}; sleep 600 & echo $! > child-{}; wait"


@pytest.fixture(params=["local", "amqp"], scope="module")
def address(request: pytest.FixtureRequest) -> str:
    return "local:" if request.param == "local" else str(request.getfixturevalue("broker").url)


@pytest.fixture(scope="module")
def cluster(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("run")
    with running_cluster(folder, amqp_url=address, nodes=2, tasks=(), node_flags=["--allow-commands"]) as made:
        yield made


def run(cluster: Cluster, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """`windrow run` in the cluster's folder."""
    return run_windrow(
        "run", "--url", cluster.url, *arguments, code=code, folder=cluster.folder, environment=cluster.environment
    )


def is_alive(file: Path) -> bool:
    try:
        return psutil.Process(int(file.read_text())).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def hold(cluster: Cluster) -> str:
    """A job of one command that does not end, at work when this returns; its id."""
    for name in ("begun-0", "child-0"):
        (cluster.folder / name).unlink(missing_ok=True)
    job = run(cluster, "--detach", "--range", "1", "--", HOLD).stdout.strip()
    child = cluster.folder / "child-0"
    wait_until(lambda: child.exists() and child.read_text().endswith("\n"), PATIENCE_S, "the command to begin")
    assert is_alive(child)
    return job


def wait_dead(cluster: Cluster) -> None:
    for name in ("begun-0", "child-0"):
        wait_until(lambda name=name: not is_alive(cluster.folder / name), PATIENCE_S, f"{name} to end")  # type: ignore[misc]


def test_a_command_for_each_line_and_number_with_outputs_in_order(cluster: Cluster) -> None:
    names = [f"it's {number} $x" for number in range(200)]
    (cluster.folder / "lines.txt").write_text("".join(f"{name}\n" for name in names))
    assert run(cluster, "--each-line", "lines.txt", "--", "echo", "<{}>").stdout.splitlines() == [
        f"<{name}>" for name in names
    ]
    shell = run(cluster, "--each-line", "lines.txt", "--", "echo {} | tr a-z A-Z")
    assert shell.stdout.splitlines() == [name.upper() for name in names]
    unordered = run(cluster, "--unordered", "--range", "5:300", "--", "echo", "{}").stdout.split()
    assert sorted(map(int, unordered)) == list(range(5, 300))


def test_folder_environment_and_item_reach_the_command(cluster: Cluster) -> None:
    line = 'echo "$PWD|$A|$WINDROW_ITEM|$WINDROW_INDEX|$WINDROW_JOB|$WINDROW_AMQP_URL"; cat'
    done = run(cluster, "--env", "A=x y", "--range", "7:9", "--name", "n", "--", line)
    job = json.loads(cluster.windrow("job", "last", "--json").stdout)["id"]
    folder = cluster.folder.resolve()
    assert done.stdout.splitlines() == [f"{folder}|x y|7|0|{job}|", f"{folder}|x y|8|1|{job}|"]


def test_failures_name_code_signal_time_and_what_could_not_be_started(cluster: Cluster) -> None:
    script = "case {} in 0) exit 0;; 1) echo why >&2; exit 3;; 2) kill -9 $$;; 3) echo part; sleep 600;; esac"
    done = run(cluster, "--timeout", "1", "--range", "4", "--", script, code=1)
    told = [
        "item 1 failed: the command exited with code 3: why",
        "item 2 failed: the command was killed by SIGKILL",
        "item 3 failed: the command ran for longer than 1 s and was killed\n  part",
    ]
    for text in told:
        assert text in done.stderr
    kinds = [json.loads(line)["kind"] for line in cluster.windrow("failures", "last", "--json").stdout.splitlines()]
    assert kinds == ["error", "error", "timeout"]
    assert "there is no command 'no-such-tool' here" in run(cluster, "--", "no-such-tool", code=1).stderr
    (cluster.folder / "plain").write_text("no program")
    assert "may not be executed" in run(cluster, "--", "./plain", code=1).stderr
    (cluster.folder / "plain").chmod(0o755)
    assert "cannot be executed: Exec format error" in run(cluster, "--", "./plain", code=1).stderr
    assert "there is no folder /no/folder" in run(cluster, "--cwd", "/no/folder", "--", "true", code=1).stderr


def test_retries_are_attempts_more_and_too_many_failures_stop_the_job(cluster: Cluster) -> None:
    script = "test -e tried-{} && exit 0; touch tried-{}; exit 1"
    run(cluster, "--retries", "1", "--backoff", "0", "--range", "3", "--", script)
    stopped = run(cluster, "--max-failures", "2", "--range", "500", "--", "false", code=1)
    assert "cancelled" in stopped.stderr.splitlines()[-2]
    assert stopped.stderr.count(" failed: the command exited with code 1") < 500


def test_cancelling_kills_the_command_with_all_that_it_started(cluster: Cluster) -> None:
    job = hold(cluster)
    cluster.windrow("cancel", job)
    wait_dead(cluster)


def test_a_killed_worker_takes_its_command_along(cluster: Cluster) -> None:
    job = hold(cluster)
    begun = psutil.Process(int((cluster.folder / "begun-0").read_text()))
    worker = begun.parent()
    assert worker is not None
    # So that the next attempt does not begin at once, with the same files.
    cluster.windrow("pause", job)
    worker.kill()
    wait_until(lambda: not psutil.pid_exists(begun.pid) or begun.status() == "zombie", PATIENCE_S, "the command's end")
    cluster.windrow("cancel", job)
    wait_dead(cluster)


def test_without_leave_submitting_is_refused_and_the_flag_is_named(tmp_path: Path) -> None:
    with running_cluster(tmp_path / "cluster", nodes=1, tasks=()) as cluster:
        assert (
            "no node of queue 'default' runs commands; start one with --allow-commands"
            in run(cluster, "--", "true", code=2).stderr
        )
        assert "--allow-commands" in cluster.windrow("submit", "windrow.run:command", code=2).stderr


def test_commands_die_with_their_node(tmp_path: Path) -> None:
    with running_cluster(tmp_path / "cluster", nodes=1, tasks=(), node_flags=["--allow-commands"]) as cluster:
        job = hold(cluster)
        cluster.kill_node(0)
        wait_dead(cluster)
        cluster.windrow("cancel", job)
