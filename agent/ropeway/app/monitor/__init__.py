"""What shows a running agent to others: metrics for Prometheus, and a page for a person."""
