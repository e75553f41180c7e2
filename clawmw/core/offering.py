"""Whether a session's model is given the means to ask for what is cut.

That adds a tool, so it may move no cached prefix; and it is decided from the messages alone,
so that any process decides alike. With an opening as long as an agent's: from the first call.
With a shorter one: from the first call whose cuts are worth the tool, if all of it is still too
short to be cached.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

from clawmw.core.exchange import Exchange
from clawmw.core.fold import Folding, History, Trial, readable, reduced
from clawmw.core.prefix import tools_tokens
from clawmw.core.render import applied, message_tokens
from clawmw.core.types import Message, Role

__all__ = ["LEAST", "can_expand"]

LEAST = 1024
"""Tokens: the shortest prefix that most providers cache; none caches less."""
OPENING = 256
"""Tokens of tools, system prompt and first request from which a session is taken to grow."""
SURE = 0.85
"""Tokens are estimated: with less than this share of it, a prefix is not cached."""


def can_expand(
    ex: Exchange, earlier: History, folding: Folding
) -> tuple[bool | None, Trial | None]:
    """Whether it is; None: not decided yet, and how the history would fold if it were.

    `earlier`: what is folded already of the call's messages. `folding`: with the means to ask.
    """
    if not ex.can_offer():
        return False, None
    least = SURE * max(ex.setup.profile(ex.raw.model).cache.min_tokens, LEAST)
    messages, known = ex.raw.messages, earlier.steps
    trial = _suited(earlier.trial, ex, len(messages))
    price = sum(offer.tokens for stage, offer in ex.pipeline.offers if ex.acts(stage))
    total, opened = tools_tokens(ex.raw.tools), False
    before = 0
    for index, message in enumerate(messages):
        weight = known[index].raw_tokens if index < len(known) else message_tokens(message)
        total += weight
        if not opened and total >= OPENING:
            return True, None
        # Asked at each message, however many come with one call: so any process asks alike. Both
        # are paid for on every call from here on; and some providers cache even a short prefix
        # (DeepSeek), which another tool moves. No more can be cut than there is.
        if weight >= price and index >= trial.count:
            trial = _tried(trial, messages[trial.count : index + 1], folding)
            if trial.cut >= price + before:
                return True, None
        if total >= least:
            return False, None
        before += weight
        opened = opened or message.role is Role.USER
    return None, trial


def _suited(trial: Trial | None, ex: Exchange, count: int) -> Trial:
    """The trial, if it goes for the tools of today and for no more messages."""
    fits = trial is not None and trial.tools == ex.raw.tools and trial.count <= count
    return trial if trial is not None and fits else Trial(ex.raw.tools)


def _tried(trial: Trial, messages: Sequence[Message], folding: Folding) -> Trial:
    """The trial with those messages more."""
    if not messages:
        return trial
    acting = folding.acting
    states = tuple(map(copy.copy, trial.states)) or tuple(folder.start() for folder in acting)
    cut = trial.cut
    for message in messages:
        parts = reduced(message, folding, acting, states, readable(message))
        if any(part.ref for part in parts.values()):
            cut += message_tokens(message) - message_tokens(applied(message, parts))
    return Trial(trial.tools, trial.count + len(messages), states, cut)
