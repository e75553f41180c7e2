"""The two short loops that perform effects: the only difference between sync and async.

`advance` goes as far as the next model call, so that a caller may read a stream between
two steps; `drive` also makes the calls.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from clawmw.core.effects import Call, Called, Effect, Wait
from clawmw.core.engine import Result, Run
from clawmw.errors import StoreError

__all__ = ["aadvance", "adrive", "advance", "advance_to", "drive"]


def advance(run: Run, perform: Callable[[Effect], Any], answer: Called | None) -> Call | Result:
    """Perform effects until the next `Call` or the end; `answer` is what the last call gave."""
    step = advance_to((Call,), run, perform, answer)
    assert not isinstance(step, Wait)
    return step


def advance_to(
    stops: tuple[type[Call | Wait], ...],
    run: Run,
    perform: Callable[[Effect], Any],
    answer: Any,
) -> Call | Wait | Result:
    """`advance`, which also hands back effects that are to be awaited elsewhere.

    `answer` is what the last one handed back gave.
    """
    try:
        effect = run.send(answer)
        while not isinstance(effect, stops):
            try:
                given = perform(effect)
            except StoreError as error:
                effect = run.throw(error)
            except BaseException:  # interrupted: what comes later must find it ended
                run.close()
                raise
            else:
                effect = run.send(given)
        return effect
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]


async def aadvance(
    run: Run, perform: Callable[[Effect], Awaitable[Any]], answer: Called | None
) -> Call | Result:
    """`advance`, awaiting."""
    try:
        effect = run.send(answer)
        while not isinstance(effect, Call):
            try:
                given = await perform(effect)
            except StoreError as error:
                effect = run.throw(error)
            except BaseException:  # interrupted: what comes later must find it ended
                run.close()
                raise
            else:
                effect = run.send(given)
        return effect
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]


def drive(run: Run, perform: Callable[[Effect], Any], call: Callable[[Call], Called]) -> Result:
    """The whole exchange, each call made by `call`."""
    step = advance(run, perform, None)
    while isinstance(step, Call):
        step = advance(run, perform, call(step))
    return step


async def adrive(
    run: Run,
    perform: Callable[[Effect], Awaitable[Any]],
    call: Callable[[Call], Awaitable[Called]],
) -> Result:
    """`drive`, awaiting."""
    step = await aadvance(run, perform, None)
    while isinstance(step, Call):
        step = await aadvance(run, perform, await call(step))
    return step
