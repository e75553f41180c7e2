"""What a forked child must make anew: locks that a lost thread holds, queues of its parent."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable

__all__ = ["after_fork"]


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
