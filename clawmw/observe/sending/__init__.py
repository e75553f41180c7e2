"""The ways a span goes out: bounded queues, tail sampling, counts of what was lost."""
