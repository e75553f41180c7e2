"""Adapters of libraries that want an environment of their own: see `test_frameworks.py`."""
