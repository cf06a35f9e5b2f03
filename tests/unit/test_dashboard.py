"""The committed dashboard: made by its script, and asking only for metrics that there are."""

from __future__ import annotations

import json
import re
import warnings

from prometheus_client.parser import text_string_to_metric_families

from tests.prometheus_server import DASHBOARD, dashboard_queries
from tests.sample_view import sample_view
from windrow.monitoring.metrics import render_metrics


def test_the_committed_dashboard_is_what_the_script_makes() -> None:
    with warnings.catch_warnings():
        # The SDK would rather make the newer kind of dashboard, which older Grafanas cannot read.
        warnings.filterwarnings("ignore", "Prefer using dashboardv2", DeprecationWarning)
        from windrow.monitoring.dashboards.build import build_dashboard

    assert DASHBOARD.read_text(encoding="utf-8") == build_dashboard(), (
        "run `python -m windrow.monitoring.dashboards.build` and commit what it writes"
    )


def test_every_metric_and_label_value_it_asks_for_exists() -> None:
    body, _ = render_metrics(sample_view())
    samples = [sample for family in text_string_to_metric_families(body.decode()) for sample in family.samples]
    names = {sample.name for sample in samples}
    asked: set[str] = set()
    for query in dashboard_queries():
        asked |= set(re.findall(r"\b(?:windrow|process)_\w+", query.expr))
        for metric, label, value in re.findall(r"(\w+)\{(\w+)='(\w+)'\}", query.expr):
            assert any(sample.name == metric and sample.labels.get(label) == value for sample in samples), query
    assert asked - names == set()
    assert len(asked) > 20


def test_every_query_goes_to_the_data_source_that_was_chosen() -> None:
    targets = [target for panel in json.loads(DASHBOARD.read_text())["panels"] for target in panel.get("targets", ())]
    assert {target["datasource"]["uid"] for target in targets} == {"${datasource}"}


def test_panels_have_ids_and_titles_of_their_own() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    shown = [panel["title"] for panel in panels if panel["type"] != "row"]
    assert len(set(shown)) == len(shown)
