"""One attempt on the wire: what was sent, what came, how long it took."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from clawmw.adapters import translating
from clawmw.adapters.patience import Patience
from clawmw.core.effects import Call, Called
from clawmw.core.types import Failure, Response
from clawmw.errors import TranslationError
from clawmw.ownership import Token
from clawmw.runtime import Live

if TYPE_CHECKING:
    from clawmw.adapters.transport import Base

__all__ = ["Attempt"]


class Attempt:
    """See the module."""

    def __init__(self, owner: Base, request: Any, live: Live, call: Call) -> None:
        self.owner, self.live, self.call = owner, live, call
        timeout = live.terms.timeout
        late = owner.module.ReadTimeout
        self.patience = Patience(timeout.first_byte, timeout.idle, late)
        self.response: Any = None
        self.made = True
        """It is one that can be sent: its model can be told of the call."""
        self.sent, self.token, self.through = request, Token(live.exchange, b""), None
        try:
            self.sent, self.token, self.through = owner.outgoing(request, live, call, self.patience)
        except TranslationError as error:
            self.made = False
            self.response = translating.refused(owner.module, live, error, str(request.url))
        self.started, self._clock = owner.runtime.clock(), time.perf_counter()
        self.error: Exception | None = None
        self.body = b""
        self.first_byte: float | None = None

    def called(self, outcome: Response | Failure) -> Called:
        """The attempt as the engine wants to know it."""
        if isinstance(outcome, Failure) and outcome.kind != "refused":
            self.live.failure = outcome
        headers = tuple(self.response.headers.multi_items()) if self.response is not None else ()
        return Called(outcome, self.started, self.owner.runtime.clock(), self.first_byte, headers)

    def came(self, response: Any) -> Any:
        """The answer has begun: the caller's dialect is read from it."""
        self.response = translating.translated(self.owner.module, response, self.through)
        return self.response

    def arrived(self) -> None:
        """Some of the answer is here."""
        self.patience.moved()
        if self.first_byte is None:
            self.first_byte = self.owner.runtime.clock()

    def next(self, chunks: Iterator[bytes]) -> bytes | None:
        """The next bytes, None at the end; raises when they were too long in coming."""
        began = time.perf_counter()
        chunk = next(chunks, None)
        if chunk is not None:
            self.patience.waited(time.perf_counter() - began)
        return chunk

    async def anext(self, chunks: AsyncIterator[bytes]) -> bytes | None:
        """`next`, awaiting."""
        return await self.patience.of(anext(chunks, None))

    def waited(self) -> None:
        """The provider's part is over: what it took is not ours."""
        self.live.called += time.perf_counter() - self._clock

    def failed(self, error: Exception) -> Called:
        """The attempt raised."""
        self.error = error
        return self.called(self.owner.failure(error))
