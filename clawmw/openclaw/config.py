"""OpenClaw's config file: where it is, and how it is written so that nothing can be lost.

A change is checked before it is made (by `openclaw config validate`, where that program is there),
written beside the file and moved over it, with the file as it was kept as a backup. A record of
what was changed lies beside both, so that `undo` gives back the very bytes, or, where the file
was edited since, takes back only what is still as it was set.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path as File
from typing import Any

from clawmw.errors import ClawmwError
from clawmw.openclaw.text import Document, Path, TextError, at

__all__ = ["ConfigError", "Edit", "Record", "config_path", "read", "state_folder", "undo", "write"]

_ABSENT = object()
_VALIDATE_SECONDS = 60.0


class ConfigError(ClawmwError):
    """OpenClaw's config cannot be read or written, or would not be valid."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One value that is set, and what it takes to take it back."""

    path: Path
    value: Any
    before: Any
    """What stood there; None where nothing did."""
    stood: int
    """How much of the path was there: all of it, or so many keys from the top."""

    @classmethod
    def of(cls, document: Document, path: Path, value: Any) -> Edit:
        """What it takes to have `value` at a path of a document."""
        ends = range(1, len(path) + 1)
        stood = sum(at(document.value, path[:end], _ABSENT) is not _ABSENT for end in ends)
        return cls(path, value, at(document.value, path), stood)

    @property
    def had(self) -> bool:
        """Whether something stood there."""
        return self.stood == len(self.path)

    def taken_back(self, document: Document) -> Document:
        """A document as it was before; objects made for it go when nothing else is in them."""
        if self.had:
            return document.set(self.path, self.before)
        document = document.removed(self.path)
        for end in range(len(self.path) - 1, self.stood, -1):
            if at(document.value, self.path[:end], _ABSENT) == {}:
                document = document.removed(self.path[:end])
        return document


def state_folder(env: Mapping[str, str]) -> File:
    """OpenClaw's state folder: `OPENCLAW_STATE_DIR`, else `~/.openclaw`."""
    given = env.get("OPENCLAW_STATE_DIR")
    return File(given).expanduser() if given else File.home() / ".openclaw"


def config_path(env: Mapping[str, str]) -> File:
    """The config file: `OPENCLAW_CONFIG_PATH`, else `openclaw.json` in the state folder."""
    given = env.get("OPENCLAW_CONFIG_PATH")
    return File(given).expanduser() if given else state_folder(env) / "openclaw.json"


def read(path: File) -> Document:
    """The config. Raises `ConfigError` saying what is in the way."""
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: there is no OpenClaw config; run `openclaw onboard` first, or name the file "
            "with --config or OPENCLAW_CONFIG_PATH"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    try:
        return Document(text)
    except TextError as error:
        raise ConfigError(f"{path}: {error}") from None


@dataclass(frozen=True, slots=True)
class Record:
    """What was changed in a config, and the backup of how it was before the first change."""

    backup: str
    after: str
    """Digest of the file as it was left."""
    edits: tuple[Edit, ...]
    url: str
    """The gateway that it leads to."""

    @staticmethod
    def file(config: File) -> File:
        """Where the record of a config lies."""
        return config.with_name(config.name + ".clawmw.json")

    @classmethod
    def read(cls, config: File) -> Record | None:
        """The record of a config; None: there is none. Raises `ConfigError`."""
        path = cls.file(config)
        try:
            kept = json.loads(path.read_text("utf-8"))
            edits = tuple(Edit(**{**one, "path": tuple(one["path"])}) for one in kept["edits"])
            return cls(kept["backup"], kept["after"], edits, kept["url"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            raise ConfigError(f"{path}: not a record of clawmw; move it away") from None

    def write(self, config: File) -> None:
        """Keep it (0600)."""
        edits = [{**asdict(edit), "path": list(edit.path)} for edit in self.edits]
        kept = {"url": self.url, "backup": self.backup, "after": self.after, "edits": edits}
        _replace(self.file(config), json.dumps(kept, indent=2).encode() + b"\n", 0o600)


def write(path: File, old: Document, new: Document, edits: Sequence[Edit], url: str) -> File:
    """Write a changed config; returns the backup of the file as it was.

    Raises `ConfigError` where OpenClaw would not take it; nothing is changed then.
    """
    path = _writable(path)
    _unchanged(path, old)
    earlier = Record.read(path)
    _validated(path, old.text, new.text)
    backup = _backup(path)
    _replace(path, new.text.encode(), stat.S_IMODE(path.stat().st_mode))
    if earlier is not None:
        # `undo` leads back to before the first change, not to an earlier one of ours.
        first = {edit.path: edit for edit in earlier.edits}
        edits = [*_rebased(edits, first), *(e for p, e in first.items() if p not in _paths(edits))]
        untouched = earlier.after == _digest(old.text)
        kept = earlier.backup if untouched else backup.name
    else:
        kept = backup.name
    Record(kept, _digest(new.text), tuple(edits), url).write(path)
    return backup


def undo(path: File) -> list[str]:
    """Take back what `write` did; says how, in lines.

    The file's own bytes come back where nobody changed it since; else only what is still as it
    was set is taken back. Raises `ConfigError`.
    """
    path = _writable(path)
    record = Record.read(path)
    if record is None:
        raise ConfigError(f"{path}: there is nothing to undo; `clawmw openclaw setup` was not run")
    document = read(path)
    backup = path.with_name(record.backup)
    if _digest(document.text) == record.after and backup.exists():
        _replace(path, backup.read_bytes(), stat.S_IMODE(path.stat().st_mode))
        said = [f"{path}: as it was before, byte for byte"]
    else:
        said = _taken_back(path, document, record)
    Record.file(path).unlink()
    return said


def _taken_back(path: File, document: Document, record: Record) -> list[str]:
    from clawmw.openclaw.text import dotted

    said = [f"{path}: changed since; what is still as it was set is taken back"]
    new = document
    for edit in reversed(record.edits):
        name = dotted(edit.path)
        if at(new.value, edit.path, _ABSENT) != edit.value:
            said.append(f"kept: {name} (no longer as it was set)")
            continue
        new = edit.taken_back(new)
        said.append(f"taken back: {name}")
    _validated(path, document.text, new.text)
    _backup(path)
    _replace(path, new.text.encode(), stat.S_IMODE(path.stat().st_mode))
    return said


def _paths(edits: Sequence[Edit]) -> set[Path]:
    return {edit.path for edit in edits}


def _rebased(edits: Sequence[Edit], first: Mapping[Path, Edit]) -> list[Edit]:
    return [
        replace(first[edit.path], value=edit.value) if edit.path in first else edit
        for edit in edits
    ]


# --- files --------------------------------------------------------------------------------------


def _writable(path: File) -> File:
    """The file itself, behind links. Raises `ConfigError` where OpenClaw says hands off."""
    for name in ("OPENCLAW_CONFIG_READONLY", "OPENCLAW_NIX_MODE"):
        if os.environ.get(name) == "1":
            raise ConfigError(f"{name}=1: this config is managed elsewhere; make the change there")
    return path.resolve()


def _unchanged(path: File, old: Document) -> None:
    if path.read_bytes().decode("utf-8", "replace") != old.text:
        raise ConfigError(f"{path}: changed meanwhile; try again")


def _backup(path: File) -> File:
    """A copy beside the file (0600), named by the time."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    for number in range(100):
        more = f"-{number}" if number else ""
        copy = path.with_name(f"{path.name}.clawmw-{stamp}{more}.bak")
        try:
            handle = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            continue
        with os.fdopen(handle, "wb") as file:
            file.write(path.read_bytes())
            file.flush()
            os.fsync(file.fileno())
        return copy
    raise ConfigError(f"{path}: too many backups of this second")


def _replace(path: File, data: bytes, mode: int) -> None:
    """Put `data` in a file's place in one step; what was there stays whole until then."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.chmod(mode)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _validated(path: File, old: str, new: str) -> None:
    """Ask OpenClaw whether it would take a text. Raises `ConfigError` where it would not."""
    wrong = _wrong(path, new)
    if wrong and _wrong(path, old):
        raise ConfigError(f"{path}: OpenClaw finds it wrong as it is: {wrong}; nothing was changed")
    if wrong:
        raise ConfigError(f"{path}: OpenClaw would not take it: {wrong}; nothing was changed")


def _wrong(path: File, text: str) -> str:
    """What OpenClaw finds wrong with a text; "" for nothing, and where it cannot be asked."""
    program = shutil.which("openclaw")
    if program is None:
        return ""
    beside = path.with_name(f"{path.name}.{os.getpid()}.check.json")  # includes are relative
    try:
        _replace(beside, text.encode(), 0o600)
        done = subprocess.run(  # noqa: S603 - the user's own openclaw
            [program, "config", "validate", "--json"],
            env={**os.environ, "OPENCLAW_CONFIG_PATH": str(beside)},
            capture_output=True,
            timeout=_VALIDATE_SECONDS,
            check=False,
        )
        answer = json.loads(done.stdout)
        if answer["valid"]:
            return ""
        issue = (answer.get("issues") or [{}])[0]
        return f"{issue.get('path', '?')}: {str(issue.get('message', '?'))[:300]}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, subprocess.TimeoutExpired):
        return ""  # another Node, or another OpenClaw
    finally:
        beside.unlink(missing_ok=True)
