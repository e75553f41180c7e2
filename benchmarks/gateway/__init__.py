"""What a gateway adds to a call, and how many calls it carries: `python -m benchmarks.gateway`."""
