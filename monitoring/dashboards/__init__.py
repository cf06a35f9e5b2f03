"""Grafana dashboards, and the scripts that make them."""
