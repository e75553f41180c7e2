"""Writes what was sent: `calls.jsonl` and the stored originals."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from clawmw.errors import SourceError
from clawmw.replay.records import Run, dump
from clawmw.replay.simulate import CallRecord, RunRecord

__all__ = ["Emission"]

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,127}")


class Emission:
    """`FOLDER/calls.jsonl` and `FOLDER/blobs/<ref>`, as runs are replayed.

    A row has `source`, `trajectory` (the run's id), `step` (index of the assistant message),
    `raw` and `sent` (request bodies; `sent` is null where the policy answered by itself). A
    file of the same name is replaced. They hold prompts, so only their owner may read them.
    Raises `SourceError` when the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._blobs = folder / "blobs"
        self._written: set[str] = set()
        with self._writing():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._blobs.mkdir(mode=0o700, exist_ok=True)
            self._file: IO[bytes] = _private(folder / "calls.jsonl")

    def call(self, run: Run, done: CallRecord, raw: bytes, sent: bytes | None) -> None:
        """Write one call."""
        row = b'{"source":%b,"trajectory":%b,"step":%d,"raw":%b,"sent":%b}\n'
        with self._writing():
            self._file.write(
                row % (dump(run.source), dump(run.id), done.step, raw, sent or b"null")
            )

    def originals(self, record: RunRecord) -> None:
        """Write what was stored in a run."""
        with self._writing():
            for ref, data in record.blobs.items():
                if ref not in self._written and _NAME.fullmatch(ref):
                    with _private(self._blobs / ref) as file:
                        file.write(data)
                    self._written.add(ref)

    def close(self) -> None:
        """Finish the file."""
        with self._writing():
            self._file.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SourceError(
                f"{self._blobs.parent}: cannot be written: {error.strerror}"
            ) from None


def _private(path: Path) -> IO[bytes]:
    """A new file that only its owner can read, in the place of any earlier one."""
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
