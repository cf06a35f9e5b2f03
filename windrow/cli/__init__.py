"""The command line `windrow`: what people and scripts steer a cluster with."""

from __future__ import annotations


def main() -> None:
    """The entry point of the command; ends the process with the exit code."""
    from windrow.cli.app import run

    run()
