"""What others' guards cost a call, in CPU: run by `benchmarks.guard` in an environment of its own.

Prints one JSON object: microseconds of CPU a call, the median of blocks of calls. Each wraps a
function that returns at once. Imports nothing of clawmw.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

CALLS, BLOCKS = 400, 9


def timed(call: Callable[[], Any], calls: int = CALLS) -> float:
    """Microseconds of this process a call."""
    for _ in range(20):
        call()
    times = []
    for _ in range(BLOCKS):
        start = time.process_time()
        for _ in range(calls):
            call()
        times.append((time.process_time() - start) / calls * 1e6)
    return statistics.median(times)


def tenacity_retry() -> float:
    """tenacity: three attempts, exponential waits with jitter."""
    from tenacity import Retrying, stop_after_attempt, wait_random_exponential

    retrying = Retrying(stop=stop_after_attempt(3), wait=wait_random_exponential(0.5, 8))
    return timed(lambda: retrying(lambda: "ok"))


def limits_window() -> float:
    """limits: a moving window in memory, tested and hit for two scopes."""
    from limits import RateLimitItemPerDay
    from limits.storage import MemoryStorage
    from limits.strategies import SlidingWindowCounterRateLimiter

    limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
    limit = RateLimitItemPerDay(10**9)

    def call() -> None:
        limiter.hit(limit, "chain", "c1")
        limiter.hit(limit, "agent", "a1")

    return timed(call)


def litellm_bare() -> float:
    """litellm's `acompletion` with a mock answer, without its router: what it costs itself."""
    import litellm

    messages = [{"role": "user", "content": "hello"}]

    async def call() -> Any:
        return await litellm.acompletion(model="gpt-4o", messages=messages, mock_response="ok")

    loop = asyncio.new_event_loop()
    return timed(lambda: loop.run_until_complete(call()), 50)


def litellm_router() -> float:
    """litellm's Router over the same: rate limits, cooldowns, retries."""
    from litellm import Router

    parameters = {"model": "gpt-4o", "mock_response": "ok", "rpm": 10**9, "tpm": 10**12}
    router = Router(
        model_list=[{"model_name": "main", "litellm_params": parameters}],
        num_retries=2,
        allowed_fails=3,
        cooldown_time=5,
        routing_strategy="usage-based-routing-v2",
        enable_pre_call_checks=True,
    )
    messages = [{"role": "user", "content": "hello"}]
    loop = asyncio.new_event_loop()

    async def call() -> Any:
        return await router.acompletion(model="main", messages=messages)

    return timed(lambda: loop.run_until_complete(call()), 50)


def main() -> None:
    """Print what each costs; one that fails says why."""
    found: dict[str, Any] = {}
    for peer in (tenacity_retry, limits_window, litellm_bare, litellm_router):
        try:
            found[peer.__name__] = round(peer(), 1)
        except Exception as error:  # noqa: BLE001 - another's failure is a result
            found[peer.__name__] = f"{type(error).__name__}: {error}"[:200]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
