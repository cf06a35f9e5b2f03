"""Draws from a seed which fault befalls what, when and for how long."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Dispatch = Literal["amqp", "local"]

EVERYWHERE = (
    "kill worker",
    "kill node",
    "kill scheduler",
    "freeze worker",
    "freeze node",
    "freeze node and workers",
    "freeze scheduler",
    "cut link",
    "delay link",
    "one-way link",
    "silent link",
)
WITH_A_BROKER = ("kill broker", "freeze broker", "wipe broker", "purge queues", "delete queues")
ALL_BROKERS = "brokers"
MAY_COST_A_NODE = {"kill node", "freeze node", "freeze node and workers", *(k for k in EVERYWHERE if "link" in k)}
"""Whoever is not heard for a lease is taken for lost."""

LONG_SHARE = 0.3
"""So many faults outlast the lease."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, as drawn."""

    number: int
    at_s: float
    """After the beginning of the run."""
    kind: str
    target: str
    """`node-1`, `scheduler`, `queues`, `broker`; of a cluster `broker-2` or all, `brokers`; a link, `node-1>broker`."""
    duration_s: float
    pick: int
    """Decides among what is there when the fault begins: which worker, which way of a link."""

    def __str__(self) -> str:
        return f"fault {self.number}: {self.kind} ({self.target}) for {self.duration_s:.1f} s"


def broker_names(dispatch: Dispatch, brokers: int) -> list[str]:
    """None on `local`; one alone needs no number."""
    if dispatch == "local":
        return []
    return ["broker"] if brokers == 1 else [f"broker-{number}" for number in range(brokers)]


def link_names(dispatch: Dispatch, nodes: int, clients: int, brokers: int = 1) -> list[str]:
    """Every link of a site, from whoever connects to whom."""
    names = [
        f"{who}>scheduler" for who in (*(f"node-{n}" for n in range(nodes)), *(f"client-{n}" for n in range(clients)))
    ]
    for broker in broker_names(dispatch, brokers):
        names += [f"scheduler>{broker}", *(f"node-{n}>{broker}" for n in range(nodes))]
    return names


def draw_plan(
    seed: int,
    seconds: float,
    dispatch: Dispatch,
    *,
    nodes: int,
    clients: int,
    brokers: int = 1,
    lease_s: float,
    gap_s: tuple[float, float],
    only: Sequence[str] = (),
) -> list[Fault]:
    """All faults of a run, in order; `gap_s`: the shortest and the longest time between their beginnings; `only` these
    kinds, where there are any.

    Kinds come like cards from a shuffled deck, so that a short run has as many of them as it has faults.
    """
    die = random.Random(f"{seed} {dispatch}")
    there = (*EVERYWHERE, *(WITH_A_BROKER if dispatch == "amqp" else ()))
    kinds = [kind for kind in there if not only or kind in only]
    links = link_names(dispatch, nodes, clients, brokers)
    plan: list[Fault] = []
    deck: list[str] = []
    at_s = die.uniform(*gap_s)
    while at_s < seconds:
        deck = deck or die.sample(kinds, len(kinds))
        kind = deck.pop()
        duration_s = lease_s + die.uniform(0.5, 4.0) if die.random() < LONG_SHARE else die.uniform(0.1, 0.8 * lease_s)
        target = _draw_target(die, kind, nodes, brokers, links)
        plan.append(Fault(len(plan), at_s, kind, target, duration_s, die.randrange(1 << 16)))
        at_s += die.uniform(*gap_s)
    return plan


def _draw_target(die: random.Random, kind: str, nodes: int, brokers: int, links: Sequence[str]) -> str:
    if "link" in kind:
        return die.choice(links)
    if "node" in kind or "worker" in kind:
        return f"node-{die.randrange(nodes)}"
    if kind.endswith("broker") and brokers > 1:
        # What one has lost it gets from the others, so that all are wiped.
        return ALL_BROKERS if kind == "wipe broker" else f"broker-{die.randrange(brokers)}"
    return kind.split()[1]
