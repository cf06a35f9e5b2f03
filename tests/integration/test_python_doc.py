"""Every Python example of docs/python.md is run, in order, on one real cluster."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import windrow
from windrow import Client

pytestmark = pytest.mark.system

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "python.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
MODULE, EXAMPLES = BLOCKS[0], BLOCKS[1:]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("python-doc")
    assert MODULE.startswith("# mytasks.py\n")
    (folder / "mytasks.py").write_text(MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        patch.setenv("PYTHONPATH", ":".join(filter(None, sys.path)))
        for variable in ("WINDROW_URL", "WINDROW_AMQP_URL", "WINDROW_CONFIG"):
            patch.delenv(variable, raising=False)
        sys.modules.pop("mytasks", None)
        with windrow.local(slots=2, tasks=["mytasks"]) as made:
            yield made
        sys.modules.pop("mytasks", None)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) > 10


def test_every_example_does_what_it_says(client: Client) -> None:
    # One test: what an example leaves behind is there for the next one, as on the page.
    names: dict[str, object] = {"client": client}
    for example in EXAMPLES:
        line = TEXT[: TEXT.index(example)].count("\n")
        exec(compile("\n" * line + example, str(DOCUMENT), "exec"), names)


def test_every_public_name_is_listed() -> None:
    listed = re.findall(r"`(\w+)`", TEXT.partition("## Every public name")[2])
    assert sorted(listed) == sorted(windrow.__all__)
