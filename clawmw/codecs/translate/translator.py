"""One call's translator: which steps lead from the caller's dialect to the wire's."""

from __future__ import annotations

import json
from collections.abc import Sequence

from clawmw.codecs.translate import (
    chat_to_messages,
    chat_to_responses,
    messages_answer,
    messages_events,
    messages_to_chat,
    responses_answer,
    responses_events,
    responses_to_chat,
)
from clawmw.codecs.translate.base import (
    CHAT,
    MESSAGES,
    RESPONSES,
    Body,
    Events,
    Leg,
    Names,
    encoded,
    reading,
)
from clawmw.codecs.translate.faults import Fault, error_body, read_error
from clawmw.codecs.translate.stream import Stream
from clawmw.errors import CodecError, TranslationError

__all__ = ["Translator", "refusal", "translator"]


class _MessagesOverChat(Leg):
    def __init__(self) -> None:
        super().__init__()
        self._names = Names(64)

    def ask(self, body: Body) -> Body:
        return messages_to_chat.chat_request(body, self._names, self.dropped)

    def reply(self, body: Body) -> Body:
        return messages_answer.messages_answer(body, self._names)

    def events(self) -> Events:
        return messages_events.MessagesEvents(self._names)


class _ChatOverMessages(Leg):
    def __init__(self) -> None:
        super().__init__()
        self._names = Names(128)
        self._counted = False

    def ask(self, body: Body) -> Body:
        self._counted = bool((body.get("stream_options") or {}).get("include_usage"))
        return chat_to_messages.messages_request(body, self._names, self.dropped)

    def reply(self, body: Body) -> Body:
        return messages_answer.chat_answer(body, self._names)

    def events(self) -> Events:
        return messages_events.ChatEvents(self._names, counted=self._counted)


class _ResponsesOverChat(Leg):
    def __init__(self) -> None:
        super().__init__()
        self._request: Body = {}

    def ask(self, body: Body) -> Body:
        self._request = body
        return responses_to_chat.chat_request(body, self.dropped)

    def reply(self, body: Body) -> Body:
        return responses_answer.responses_answer(body, self._request)

    def events(self) -> Events:
        return responses_events.ResponsesEvents(self._request)


class _ChatOverResponses(Leg):
    def __init__(self) -> None:
        super().__init__()
        self._counted = False

    def ask(self, body: Body) -> Body:
        self._counted = bool((body.get("stream_options") or {}).get("include_usage"))
        return chat_to_responses.responses_request(body, self.dropped)

    def reply(self, body: Body) -> Body:
        return responses_answer.chat_answer(body)

    def events(self) -> Events:
        return responses_events.ChatEvents(counted=self._counted)


_LEGS: dict[tuple[str, str], tuple[type[Leg], ...]] = {
    (MESSAGES, CHAT): (_MessagesOverChat,),
    (CHAT, MESSAGES): (_ChatOverMessages,),
    (RESPONSES, CHAT): (_ResponsesOverChat,),
    (CHAT, RESPONSES): (_ChatOverResponses,),
    (MESSAGES, RESPONSES): (_MessagesOverChat, _ChatOverResponses),
    (RESPONSES, MESSAGES): (_ResponsesOverChat, _ChatOverMessages),
}


class Translator:
    """Translates one call; `request` comes first, since it shapes the rest."""

    def __init__(self, caller: str, wire: str, legs: Sequence[Leg]) -> None:
        self.caller, self.wire = caller, wire
        self._legs = tuple(legs)

    @property
    def dropped(self) -> tuple[str, ...]:
        """Hints of the request that the wire has no place for, by the fields' names."""
        return tuple(dict.fromkeys(name for leg in self._legs for name in leg.dropped))

    def request(self, body: bytes) -> bytes:
        """The body for the wire.

        Raises `TranslationError` naming a field that has no counterpart, or where the body is
        not what the caller's dialect says.
        """
        message = (
            f"the request is not what {self.caller} says it must be, so that it cannot be "
            f"translated to {self.wire}; correct it"
        )
        with reading(TranslationError, message):
            value = json.loads(body)
            for leg in self._legs:
                value = leg.ask(value)
            return encoded(value)

    def answer(self, body: bytes) -> bytes:
        """The body for the caller. Raises `CodecError` where the wire's is of another form."""
        with reading(CodecError, f"the answer is not what {self.wire} says it must be"):
            value = json.loads(body)
            for leg in reversed(self._legs):
                value = leg.reply(value)
            return encoded(value)

    def stream(self) -> Stream:
        """A stream for the caller, made from the wire's bytes as they come."""
        return Stream(self.caller, [leg.events() for leg in reversed(self._legs)])

    def error(self, status: int, body: bytes) -> bytes:
        """An upstream's error in the caller's shape; the status stays as it is."""
        return encoded(error_body(self.caller, read_error(body, status)))


def refusal(caller: str, error: TranslationError) -> bytes:
    """What a caller is told of what cannot be translated; goes with a status of 400."""
    return encoded(error_body(caller, Fault(400, str(error))))


def translator(caller: str, wire: str) -> Translator | None:
    """The translator between two dialects; None where there is nothing to do.

    Raises `TranslationError` for a dialect that is not known.
    """
    if caller == wire:
        return None
    legs = _LEGS.get((caller, wire))
    if legs is None:
        raise TranslationError(f"no translation is known from {caller} to {wire}")
    return Translator(caller, wire, [leg() for leg in legs])
