"""The client: submits calls and jobs to a scheduler, and brings their outcomes back."""

from __future__ import annotations

from windrow.client.client import Client

__all__ = ["Client"]
