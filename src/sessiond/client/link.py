"""The link to a daemon: one channel, and calls that are repeated as long as that is safe and there is time.

A call is repeated when the daemon could not be reached, went away, or says itself that the same request may be sent
again. Requests that change something carry an id by which the daemon knows a repetition, so that nothing happens twice.
"""

import asyncio
import random  # noqa: TID251 - spreads the repetitions of many clients, which nobody replays
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
from grpc import aio

from sessiond.client.errors import Aborted, SessiondError, Unavailable, error_of

Request = TypeVar("Request")
Answer = TypeVar("Answer")
Metadata = Sequence[tuple[str, str]]

TIMEOUT_S: Final = 10.0
FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 2.0
MAY_BE_SENT_AGAIN: Final = frozenset({"CONFLICT", "SESSION_BUSY"})
"""Reasons of ABORTED that do not ask the caller to decide again."""
_OPTIONS: Final = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
)


class Link:
    """A channel to a daemon, who calls through it, and how long a call may take."""

    def __init__(self, channel: aio.Channel, token: str, timeout_s: float) -> None:
        self.channel = channel
        self.metadata: Metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self.timeout_s = timeout_s

    async def call(
        self, method: "aio.UnaryUnaryMultiCallable[Request, Answer]", request: Request, timeout_s: float | None = None
    ) -> Answer:
        """Return the answer to a request that may be sent again; raise SessiondError."""
        now = asyncio.get_running_loop().time
        until_s = now() + (self.timeout_s if timeout_s is None else timeout_s)
        attempt = 0
        while True:
            try:
                return await method(request, timeout=max(0.001, until_s - now()), metadata=self.metadata)
            except aio.AioRpcError as failed:
                error = error_of(failed)
                pause_s = pause_before_repeating(error, attempt)
                if pause_s is None or now() + pause_s >= until_s:
                    raise error from failed
            await asyncio.sleep(pause_s)
            attempt += 1

    async def close(self) -> None:
        """Hang up."""
        await self.channel.close()


def open_channel(
    address: str, *, tls: bool, ca: Path | None, certificate: Path | None, key: Path | None, server_name: str
) -> aio.Channel:
    """Return a channel; it connects when it is needed. Raise OSError if a file cannot be read."""
    options: list[tuple[str, Any]] = [*_OPTIONS]
    if server_name:
        options.append(("grpc.ssl_target_name_override", server_name))
    if not (tls or ca or certificate):
        return aio.insecure_channel(address, options=options)
    credentials = grpc.ssl_channel_credentials(_octets(ca), _octets(key), _octets(certificate))
    return aio.secure_channel(address, credentials, options=options)


def pause_before_repeating(error: SessiondError, attempt: int) -> float | None:
    """Return how long to wait before a request is sent again; None: that would not help, or not be safe."""
    is_away = isinstance(error, Unavailable) or error.code is grpc.StatusCode.CANCELLED
    if not is_away and not (isinstance(error, Aborted) and error.reason in MAY_BE_SENT_AGAIN):
        return None
    return max(error.retry_after_s or 0.0, backoff_s(attempt))


def backoff_s(attempt: int) -> float:
    """Return a pause that doubles with each attempt, and differs from client to client."""
    longest_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(attempt, 10))
    return longest_s * random.uniform(0.5, 1.0)  # noqa: S311 - no secret; clients are not replayed


def new_request_id() -> str:
    """Return an id by which the daemon knows a request again."""
    return str(uuid.uuid4())  # noqa: TID251 - clients are not replayed


def _octets(file: Path | None) -> bytes | None:
    return None if file is None else Path(file).read_bytes()
