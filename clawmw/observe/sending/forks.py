"""What a forked child must make anew: locks that a lost thread holds, queues of its parent."""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable
from typing import Any

__all__ = ["after_fork", "at_end_of_child"]


def after_fork(renew: Callable[[], None]) -> None:
    """Call a bound method in every child forked from now on, while its object lives."""
    if not hasattr(os, "register_at_fork"):
        return
    alive = weakref.WeakMethod(renew)

    def in_child() -> None:
        found = alive()
        if found is not None:
            found()

    os.register_at_fork(after_in_child=in_child)


def at_end_of_child(work: Callable[[float], Any], seconds: float) -> None:
    """In a worker of `multiprocessing`, call `work` when it ends: `atexit` is not run there.

    To be called in the worker itself, which forgets what its parent asked for.
    """
    util: Any = sys.modules.get("multiprocessing.util")
    process: Any = sys.modules.get("multiprocessing.process")
    if util is not None and process is not None and process.parent_process() is not None:
        util.Finalize(None, work, args=(seconds,), exitpriority=10)
