"""The kernel's count of kills for want of memory."""

from __future__ import annotations

from pathlib import Path

from windrow.node.oom import OomKills, find_oom_file


def test_only_new_and_recent_kills_count(tmp_path: Path) -> None:
    file = tmp_path / "memory.events"
    file.write_text("low 0\noom 3\noom_kill 3\noom_group_kill 7\n")
    kills = OomKills(file)
    assert kills.find_recent(10.0) == 0
    file.write_text("oom_kill 4\n")
    kills.look(11.0)
    file.write_text("oom_kill 6\n")
    assert kills.find_recent(12.0) == 3
    assert kills.find_recent(16.5) == 2
    assert kills.find_recent(30.0) == 0


def test_where_the_kernel_does_not_tell_the_count_is_not_known(tmp_path: Path) -> None:
    assert OomKills(None).find_recent(1.0) is None
    assert OomKills(tmp_path / "nowhere").find_recent(1.0) is None
    (tmp_path / "odd").write_text("oom_kill many\n")
    assert OomKills(tmp_path / "odd").find_recent(1.0) is None


def test_the_file_of_either_hierarchy_is_found(tmp_path: Path) -> None:
    assert find_oom_file("0::/a/b\n", tmp_path) is None
    new = tmp_path / "a" / "b" / "memory.events"
    new.parent.mkdir(parents=True)
    new.touch()
    assert find_oom_file("0::/a/b\n", tmp_path) == new
    old = tmp_path / "memory" / "c" / "memory.oom_control"
    old.parent.mkdir(parents=True)
    old.touch()
    assert find_oom_file("5:cpu,cpuacct:/\n4:memory:/c\n0::/\n", tmp_path) == old
    assert find_oom_file("", tmp_path) is None


def test_in_a_container_that_shows_the_path_of_the_host_the_own_group_is_found_all_the_same(tmp_path: Path) -> None:
    for parts in (("memory", "memory.oom_control"), ("memory", "mine", "memory.oom_control")):
        path = tmp_path.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert find_oom_file("4:memory:/docker/123\n", tmp_path) == tmp_path / "memory" / "memory.oom_control"
    assert find_oom_file("4:memory:/docker/123/mine\n", tmp_path) == tmp_path / "memory" / "mine" / "memory.oom_control"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "memory.events").touch()
    assert find_oom_file("0::/docker/123/mine\n", tmp_path) == tmp_path / "mine" / "memory.events"
