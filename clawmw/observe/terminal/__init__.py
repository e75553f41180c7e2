"""Traces in a terminal."""
