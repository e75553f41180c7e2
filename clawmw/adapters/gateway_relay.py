"""Answers back to whoever called the gateway: whole, as a stream, or as an error."""

from __future__ import annotations

import logging
import traceback
from contextlib import aclosing
from typing import Any, cast

import httpx

from clawmw.adapters.failures import lost
from clawmw.adapters.gateway_aiohttp import TlsError
from clawmw.adapters.gateway_guard import GatewayError, Send, answer
from clawmw.adapters.gateway_http import Response
from clawmw.adapters.gateway_upstream import Caller, RedirectError
from clawmw.core.codec import Codec
from clawmw.errors import ClawmwError

__all__ = ["refused", "relay", "tell"]

_log = logging.getLogger("clawmw.gateway")


async def relay(response: Response, send: Send, codec: Codec | None = None) -> None:
    """The answer, each chunk as it arrives; its stream is closed whatever happens."""
    headers = [(n.encode(), v.encode()) for n, v in response.headers.items()]
    stream = response.stream
    if stream is None:
        await answer(send, response.status_code, headers, response.content)
        return
    tail = b"\n\n"
    try:
        await send(
            {"type": "http.response.start", "status": response.status_code, "headers": headers}
        )
        chunks = aiter(stream)
        async with aclosing(cast("Any", chunks)):
            async for chunk in chunks:
                if chunk:
                    tail = (tail + chunk)[-4:]
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
    except Exception as error:  # noqa: BLE001 - the answer has begun; its reader must be told
        await _broken_off(response, tail, error, send, codec)
    else:
        await send({"type": "http.response.body", "body": b""})
    finally:
        await stream.aclose()


async def _broken_off(
    response: Response, tail: bytes, error: Exception, send: Send, codec: Codec | None
) -> None:
    """Say that a stream broke, in the stream; the connection then ends as the upstream's did.

    Between two events only: in the middle of one, the reader would take it for its rest.
    """
    if not isinstance(error, httpx.HTTPError):
        _report(error)
    stream = response.headers.get("content-type", "").startswith("text/event-stream")
    if not stream or not tail.endswith((b"\n\n", b"\r\n\r\n", b"\r\r")):
        return
    message = "the upstream's answer broke off before its end; what came so far is not complete"
    if codec is None:
        return
    told = codec.error({"message": message, "type": "upstream_error", "code": "stream_broken"})
    event = codec.writer().failing(told)
    await send({"type": "http.response.body", "body": event, "more_body": True})


async def tell(refusal: GatewayError, codec: Codec | None, send: Send) -> None:
    """What a request is refused for, in the error shape of its dialect."""
    if codec is None:
        await refusal.answer(send)
        return
    body = codec.error({"message": str(refusal), "type": refusal.kind, "code": refusal.code})
    told = [("content-type", "application/json"), *refusal.headers]
    await answer(send, refusal.status, [(n.encode(), v.encode()) for n, v in told], body)


def refused(error: Exception, caller: Caller) -> GatewayError:
    """What the caller is told of a call that failed without an answer."""
    who = f"the upstream at {caller.upstream}"
    match error:
        case GatewayError():
            return error
        case RedirectError():
            return GatewayError(
                502,
                f"{who} answered with a redirect, which is not followed; put the address it "
                "redirects to into the configuration",
                "upstream_redirected",
                x_should_retry="false",
            )
        case TlsError():
            return GatewayError(
                502,
                f"{who} has no certificate that is trusted here, or speaks no TLS",
                "upstream_untrusted",
                x_should_retry="false",
            )
        case httpx.ConnectError() | httpx.ConnectTimeout():
            return GatewayError(*lost("connect", caller.upstream), x_should_retry="true")
        case httpx.TimeoutException():
            return GatewayError(*lost("timeout", caller.upstream))
        case httpx.HTTPError():
            return GatewayError(*lost("protocol", caller.upstream))
        case ClawmwError():
            return GatewayError(500, str(error), "clawmw_error", x_should_retry="false")
    _report(error)
    return GatewayError(
        500,
        f"an error inside the gateway ({type(error).__name__}); its log says where",
        "internal_error",
        x_should_retry="false",
    )


def _report(error: Exception) -> None:
    """One line for a bug to be found by; never the text, which could hold content."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    _log.error("clawmw: internal error: %s%s", type(error).__name__, where)
