"""What shows a running cluster: metrics, dashboards and scrape configuration."""
