"""Writes what was sent: `calls.jsonl` and the stored originals."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import IO

from clawmw.errors import SourceError
from clawmw.replay.records import dump
from clawmw.replay.simulate import RunRecord

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
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._blobs.mkdir(mode=0o700, exist_ok=True)
            self._file: IO[bytes] = _private(folder / "calls.jsonl")
        except OSError as error:
            raise SourceError(f"{folder}: cannot be written: {error.strerror}") from None

    def add(self, record: RunRecord) -> None:
        """Write one run's calls and originals."""
        start = b'{"source":' + dump(record.run.source) + b',"trajectory":' + dump(record.run.id)
        try:
            for call in record.calls:
                self._file.write(
                    start
                    + b',"step":%d,"raw":' % call.step
                    + call.raw_body
                    + b',"sent":'
                    + (call.sent_body or b"null")
                    + b"}\n"
                )
            for ref, data in record.blobs.items():
                if ref not in self._written and _NAME.fullmatch(ref):
                    with _private(self._blobs / ref) as file:
                        file.write(data)
                    self._written.add(ref)
        except OSError as error:
            raise SourceError(f"{self._blobs.parent}: cannot be written: {error.strerror}") from None

    def close(self) -> None:
        """Finish the file."""
        try:
            self._file.close()
        except OSError as error:
            raise SourceError(f"{self._blobs.parent}: cannot be written: {error.strerror}") from None


def _private(path: Path) -> IO[bytes]:
    """A new file that only its owner can read, in the place of any earlier one."""
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
