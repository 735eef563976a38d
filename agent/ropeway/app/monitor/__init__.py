"""What shows a running agent: metrics for Prometheus, a page for a person, and a terminal."""
