"""The mutants that no test can notice, each with the reason, as committed in known.toml."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from tests.mutation.operators import Mutant

LIST = Path(__file__).parent / "known.toml"


@dataclass(frozen=True, slots=True)
class Known:
    """One entry; it means the mutants that have all it says."""

    module: str
    function: str
    why: str
    before: str | None = None
    """None: whatever is changed in this function."""
    after: str | None = None
    nth: int | None = None

    def means(self, mutant: Mutant) -> bool:
        return (self.module, self.function) == (mutant.module, mutant.function) and all(
            said is None or said == there
            for said, there in ((self.before, mutant.before), (self.after, mutant.after), (self.nth, mutant.nth))
        )


def read_known(path: Path = LIST) -> list[Known]:
    return [Known(**each) for each in tomllib.loads(path.read_text()).get("mutant", [])]
