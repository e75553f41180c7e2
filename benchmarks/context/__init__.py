"""What context compressors save and lose, side by side: `python -m benchmarks.context`.

clawmw at each level, its peers, and plain truncation, each over the same recorded and made-up
runs, counted by the same code (`clawmw.replay`). No model is called; money is simulated.

- Recorded runs are read from `--traces` (public agent runs; not part of the project).
- Long runs are made up by `benchmarks.long_runs`, by default with its hold-out seed.
- Peers run in an environment of their own, `.venv-peers`, made when it is not there.

What is asked for again is charged as in `clawmw replay` (net). For the peers' good, whatever a
reversible one hid counts as fetchable by a tool that costs nothing to offer.
"""
