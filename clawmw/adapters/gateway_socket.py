"""The socket that the gateway listens on. Light: a process that only holds it needs no more."""

from __future__ import annotations

import errno
import socket

from clawmw.errors import ClawmwError

__all__ = ["BACKLOG", "listen"]

BACKLOG = 1024
"""Connections that may wait to be taken."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `ClawmwError` saying what is in the way."""
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError):
        raise ClawmwError(f"--host {host}: this machine knows no such address") from None
    family, kind, proto, _, address = found[0]
    # With proto given, asyncio sets TCP_NODELAY on what is accepted; without, 40 ms stalls.
    sock = socket.socket(family, kind, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ClawmwError(_in_the_way(error, host, port)) from None
    return sock


def _in_the_way(error: OSError, host: str, port: int) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"port {port} is in use on {host}; choose another --port, or end what holds it"
        case errno.EACCES:
            return f"port {port} is not open to this user; choose one above 1023"
        case errno.EADDRNOTAVAIL:
            return f"--host {host}: this machine has no such address"
        case _:
            return f"cannot listen on {host} port {port}: {error.strerror}"
