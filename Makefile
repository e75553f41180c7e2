# Needs Python 3.11 or newer, make and git; everything else is set up by `make setup`.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' 2>/dev/null \
	&& echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup demo test nightly matrix pictures lint bench lock clean

setup: $(READY)

# The lock file says which versions; the project itself is installed in place.
$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || \
		{ echo "clawmw needs Python 3.11 to 3.14; with one elsewhere: make PYTHON=/path/to/python"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip sync --quiet --python $(BIN)/python requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

demo: $(READY)
	@$(BIN)/python -m clawmw.cli.main demo

test: $(READY)
	$(BIN)/python -m pytest

# What takes longer, or needs more than the project: every Python at hand, the built wheel.
nightly: $(READY)
	$(BIN)/python -m pytest -m "slow or external or not slow"

# Other versions of the SDKs than the lock's, each in an environment of its own.
matrix: $(READY)
	$(BIN)/python -m pytest -m external -rs tests/adapters/test_matrix.py

# The README's pictures, of the demo's own runs; needs chromium.
pictures: $(READY)
	CLAWMW_PICTURES=1 $(BIN)/python -m pytest -m external tests/test_pictures.py

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python -m benchmarks.overhead
	$(BIN)/python -m benchmarks.gateway

# Only to move to newer versions: writes the lock file anew. (Extras adk and crewai want other
# versions of what the rest needs: their tests make environments of their own.)
LOCKED := agents anthropic httpx2 langchain mcp openai pydantic-ai
lock:
	$(BIN)/uv pip compile --quiet --universal --upgrade --no-emit-index-url --no-header --generate-hashes \
		--python-version 3.11 pyproject.toml --group dev $(LOCKED:%=--extra %) --output-file requirements.lock

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
