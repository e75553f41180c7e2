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
    total, weights, opened = tools_tokens(ex.raw.tools), [], False
    for index, message in enumerate(messages):
        weights.append(known[index].raw_tokens if index < len(known) else message_tokens(message))
        total += weights[-1]
        if not opened and total >= OPENING:
            return True, None
        if total >= least:
            break
        opened = opened or message.role is Role.USER
    trial = _suited(earlier.trial, ex, len(weights))
    price = sum(offer.tokens for stage, offer in ex.pipeline.offers if ex.acts(stage))
    # Both are paid for on every call from here on; and some providers cache even a short prefix
    # (DeepSeek), which another tool moves. No more can be cut than there is.
    if weights[-1] >= price:
        trial = _tried(trial, messages[trial.count : len(weights)], folding)
        if trial.cut >= price + sum(weights[:-1]):
            return True, None
    return (False, None) if total >= least else (None, trial)


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
