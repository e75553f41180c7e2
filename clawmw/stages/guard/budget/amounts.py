"""What a call may use at worst, and what it used. Tokens; money in nano-USD."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from clawmw.core.bill import answers, whole
from clawmw.core.breakpoints import lifetime
from clawmw.core.effects import Meter
from clawmw.core.money import Profile
from clawmw.core.stage import Context
from clawmw.core.types import Failure, Outcome, Request

__all__ = ["MARGIN", "Amounts", "asked_output", "limited", "overrun", "used", "worst"]

Amounts = dict[Meter, int]
"""By meter; `usd` is -1 where no price is known."""

MARGIN = 1.25
"""Single contexts are estimated up to a fifth too low; usage settles it."""
_FALLBACK_OUTPUT = 4096
"""Output tokens reserved when neither the caller nor the model's facts give a limit."""
_MOST = 2**53
"""More than this is no amount anybody means, and sums stay within 64 bits."""
_RICHEST = 10**17
_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")


def asked_output(request: Request) -> int | None:
    """The caller's own limit on an answer; of several the largest, None: no usable one."""
    params = request.params
    values = [whole(params[name]) for name in _LIMITS if name in params]
    return max((v for v in values if v is not None), default=None)


def worst(request: Request, ctx: Context) -> Amounts:
    """The most one attempt may use."""
    profile = _billed(request, ctx)
    tokens = int(ctx.sent_tokens * MARGIN) + 16
    cap = profile.max_output
    longest = min(asked_output(request) or cap or _FALLBACK_OUTPUT, cap or _MOST)
    output = min(answers(request) * longest, _MOST)
    usd = -1
    if profile.price is not None:
        price = profile.price.at(tokens)
        usd = tokens * max(price.input, price.cache_write) + output * price.output
    return {
        "calls": 1,
        "input_tokens": tokens,
        "output_tokens": output,
        "usd": min(usd, _RICHEST),
        "wall": 1,
        "hops": ctx.identity.hop,
        "concurrent": 1,
    }


def used(outcome: Outcome, ctx: Context, most: Amounts) -> Amounts:
    """What an attempt used. Not reported is estimated; not answered in time is the worst case."""
    nothing: Amounts = {"calls": 1, "input_tokens": 0, "output_tokens": 0, "usd": 0}
    if isinstance(outcome, Failure) and outcome.kind == "refused":
        return nothing | {"calls": 0}
    if ctx.bill is None:  # another stage answered: no model was paid, but a call it was
        return nothing
    usage, spent = ctx.bill.usage, ctx.bill.cost
    if usage is None:
        return most if spent is None else nothing
    return {
        "calls": 1,
        "input_tokens": usage.input_tokens or 0,
        "output_tokens": usage.output_tokens or 0,
        "usd": most["usd"] if spent is None else spent.total,
    }


def overrun(most: Mapping[Meter, int], spent: Mapping[Meter, int]) -> list[Meter]:
    """The meters of which an attempt used more than was reserved for it."""
    return [meter for meter, amount in spent.items() if amount > most[meter] >= 0]


def limited(request: Request, limit: int, profile: Profile) -> Request:
    """The request with a limit on its answer, under the name its provider knows."""
    names = [n for n in _LIMITS if n in request.params]
    fallback = _LIMITS[0] if profile.family.startswith("openai") else _LIMITS[1]
    if request.dialect == "openai.responses":
        fallback = _LIMITS[2]
    params = {**request.params, **dict.fromkeys(names or [fallback], limit)}
    return replace(request, params=params)


def _billed(request: Request, ctx: Context) -> Profile:
    """The prices the call is billed at: cache writes by the lifetime its marks ask for."""
    profile = ctx.profile(request.model)
    return profile.writing(lifetime(request, profile.cache))
