"""Measures Windrow beside its neighbours: one harness, one table; `make bench` runs it."""
