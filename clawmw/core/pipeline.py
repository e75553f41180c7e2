"""A policy's stages in order, sorted by what the engine asks of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from clawmw.core.epoch import Deepener, Referrer
from clawmw.core.identity import Identity
from clawmw.core.stage import Folder, Mode, Offer, Quiet, Stage, Streamer

__all__ = ["Pipeline"]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A policy's stages in order, and how they are to act."""

    stages: tuple[Stage, ...] = ()
    mode: Mode = "enforce"
    modes: Mapping[str, Mode] = field(default_factory=dict)
    """Modes of single stages, by name."""
    holdout: float = 0.0
    """Share of chains that go raw, 0 to 1."""
    digest: str = ""
    """Digest of the policy."""
    folders: tuple[tuple[Stage, Folder], ...] = field(init=False)
    streamers: tuple[tuple[Stage, Streamer], ...] = field(init=False)
    offers: tuple[tuple[Stage, Offer], ...] = field(init=False)
    hiding: tuple[Stage, ...] = field(init=False)
    """The folders that may cut something."""
    deepeners: tuple[tuple[Stage, Deepener], ...] = field(init=False)
    referrers: tuple[tuple[Stage, Referrer], ...] = field(init=False)
    held: Pipeline = field(init=False, repr=False, compare=False)
    """The stages that run where the provider holds the history."""
    quiet: Mapping[Literal["before", "after"], frozenset[str]] = field(init=False)
    """The stages that have nothing to do in a phase, by name."""

    def __post_init__(self) -> None:
        """Sort the stages by what else they do, once: asking each call is slow."""
        kinds: Mapping[str, Any] = {
            "folders": Folder,
            "streamers": Streamer,
            "offers": Offer,
            "deepeners": Deepener,
            "referrers": Referrer,
        }
        for name, kind in kinds.items():
            found = tuple((s, s) for s in self.stages if isinstance(s, kind))
            object.__setattr__(self, name, found)
        quiet = {
            phase: frozenset(s.traits.name for s in self.stages if not Quiet.speaks(s, phase))
            for phase in ("before", "after")
        }
        object.__setattr__(self, "quiet", quiet)
        guards = tuple([s for s in self.stages if _guards(s)])
        same = len(guards) == len(self.stages)
        rest = (self.mode, self.modes, self.holdout, self.digest)
        object.__setattr__(self, "held", self if same else Pipeline(guards, *rest))
        hiding = tuple(stage for stage, folder in self.folders if folder.hides())
        object.__setattr__(self, "hiding", hiding)

    def counting(self) -> Pipeline:
        """What of it holds for a body that is not read."""
        return replace(self, stages=tuple(s for s in self.stages if s.traits.needs == "weight"))

    def held_out(self, identity: Identity) -> bool:
        """Whether this chain goes raw; the same for all its calls, in any process."""
        if self.holdout <= 0:
            return False
        scope = f"holdout:{identity.scope('chain')}".encode()
        share = int.from_bytes(hashlib.blake2b(scope, digest_size=4).digest(), "big") / 2**32
        return share < self.holdout


def _guards(stage: Stage) -> bool:
    """Whether a stage leaves what is said, and to whom, as it is."""
    return stage.traits.needs != "history" and not isinstance(stage, Folder | Offer)
