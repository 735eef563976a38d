"""What a strand costs: throughput, latency, memory and processor time beside one bare link."""
