"""The labelled runs: the judgement on each, and its model calls in order.

The runs are read from a folder of `*.jsonl` (see `clawmw.replay.sources`): an argument, else
`CLAWMW_TRACES_DATA`, else the folder that lies beside the repository.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import yaml

from clawmw.core.types import Request
from clawmw.errors import SourceError
from clawmw.replay.records import CODEC, Run
from clawmw.replay.sources import Sources

__all__ = ["KINDS", "Kind", "Label", "digest", "folder_of", "labels", "requests", "runs"]

LABELS = Path(__file__).with_name("labels.yaml")
BESIDE = Path(__file__).parents[3] / "shared" / "traces"
MODEL = "openai/gpt-5.6"
"""Stands in bodies that name none."""

Kind: TypeAlias = Literal[
    "none",
    "identical",
    "cycle",
    "no_progress",
    "same_error",
    "unknown_tool",
    "monologue",
    "chanting",
    "echo",
]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Label:
    """The judgement on one run."""

    id: str
    """Source and id of the run, as in `tau-bench-airline/gpt-4o_task13_trial0`."""
    digest: str
    """Of its messages, so that a changed run is not taken for the one that was read."""
    steps: int
    """Its model calls."""
    loop: bool
    start: int | None
    """The first model call, counted from 0, whose request shows enough to step in; with `loop`."""
    kind: Kind
    half: Literal["tune", "test"]
    """Tune on one half, report on the other."""
    picked: Literal["random", "screened"]
    unsure: bool = False
    """Readers could differ: left out of scores."""


def labels() -> list[Label]:
    """Every label, in the order of the file."""
    rows = yaml.safe_load(LABELS.read_text(encoding="utf-8"))
    return [Label(start=row.pop("from", None), **row) for row in rows]


def runs(
    folder: Path | None = None, wanted: Sequence[Label] | None = None
) -> Iterator[tuple[Label, Run]]:
    """Each label (all, or the `wanted` ones) with its run.

    `SourceError`, in one line, where the folder or a run is missing, or a run has changed.
    """
    chosen = labels() if wanted is None else wanted
    names = {label.id for label in chosen}
    found: dict[str, Run] = {}
    for run in Sources(_files(folder), model=MODEL):
        if isinstance(run, Run) and f"{run.source}/{run.id}" in names:
            found[f"{run.source}/{run.id}"] = run
    for label in chosen:
        labelled = found.get(label.id)
        if labelled is None:
            raise SourceError(f"{label.id}: no such run in {folder_of(folder)}")
        if digest(labelled) != label.digest:
            raise SourceError(f"{label.id}: not the run that was labelled (its messages differ)")
        yield label, labelled


def requests(run: Run) -> Iterator[Request]:
    """The run's model calls, in order, as the requests a stage would see."""
    earlier: tuple[Request, ...] = ()
    for call in run.calls:
        if call.counted:
            request = CODEC.decode(call.body(), earlier)
            yield request
            earlier = (request,)


def digest(run: Run) -> str:
    """12 hex digits of SHA-256 over the last call's messages and its answer, a line each."""
    last = run.calls[-1]
    return sha256(b"\n".join([*last.messages, last.answer or b""])).hexdigest()[:12]


def folder_of(folder: Path | None = None) -> Path:
    """Where the runs are looked for."""
    return folder or Path(os.environ.get("CLAWMW_TRACES_DATA") or BESIDE)


def _files(folder: Path | None) -> list[Path]:
    where = folder_of(folder)
    files = sorted(where.glob("*.jsonl")) if where.is_dir() else []
    if not files:
        raise SourceError(
            f"no recorded runs (*.jsonl) in {where}; name their folder or set CLAWMW_TRACES_DATA"
        )
    return files
