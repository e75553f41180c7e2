"""The local store of spans and of outlines of calls: one SQLite file."""
