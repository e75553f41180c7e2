"""Reduction of large tool results by content kind: one file a kind, picked by content alone."""
