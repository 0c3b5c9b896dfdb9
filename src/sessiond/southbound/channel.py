"""A connection to one peer, and the call that every peer is asked through: a deadline, and one error that says enough.

What the caller must know of a failure is whether the peer may have carried out the request all the same. gRPC does not
say it: a status that the peer sent and one that was made here, for a connection that broke, look alike. What tells them
apart, in this order:

* a deadline that ran out here says nothing about the peer;
* some texts are written by gRPC on this side only (`_NEVER_SENT`, `_BROKEN`);
* some statuses are never written on this side (`_OURS_TOO` has the others);
* a status of the peer needs a connection to come over, and that is still there afterwards.

In doubt, the request may have been carried out.
"""

import asyncio
from enum import Enum
from typing import Final, TypeVar

import grpc
from grpc import StatusCode, aio

from sessiond.core.errors import PeerFailed

Request = TypeVar("Request")
Response = TypeVar("Response")

OPTIONS: Final = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 6_000),  # also TCP_USER_TIMEOUT: a peer whose machine is gone is noticed by then
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.min_reconnect_backoff_ms", 2_000),  # despite its name: how long one attempt to connect may take
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),  # a peer that comes back under another address
    ("grpc.service_config_disable_resolution", 1),  # no TXT look-up beside the one for the address
    ("grpc.use_local_subchannel_pool", 1),  # no connection and no back-off shared with another peer
)

_NEVER_SENT: Final = (
    "failed to connect to all addresses",
    "DNS resolution failed",
    "empty address list",
    "Received RST_STREAM with error code 7",  # REFUSED_STREAM: not processed at all (RFC 9113 clause 8.7)
    "Received http2 header with status: 4",  # a proxy refuses to pass it on
    "Received http2 header with status: 503",
)
"""Beginnings of texts that gRPC writes if the request did not get to the peer."""
_BROKEN: Final = (
    "Socket closed",
    "Connection reset",
    "Broken pipe",
    "Endpoint closing",
    "Transport closed",
    "Stream removed",
    "No status received",
    "GOAWAY received",
    "Cancelling all calls",
    "recvmsg",
    "sendmsg",
    "keepalive watchdog timeout",
    "ping timeout",
    "Received RST_STREAM",
    "Received http2 header",
    "CLIENT: ",  # the answer came and is too large
    "Unexpected error decompressing",
    "unsupported data flags",
)
"""Beginnings of texts that gRPC writes if it is not known what became of the request."""
_OURS_TOO: Final = {StatusCode.UNAVAILABLE, StatusCode.UNKNOWN, StatusCode.INTERNAL, StatusCode.RESOURCE_EXHAUSTED}
"""The statuses that gRPC gives to a broken call; the peer may use them too."""
_PEERS_SHARE: Final = 0.9
"""A DEADLINE_EXCEEDED before this part of the deadline is over is the peer's own; after it, it may be ours."""


class _Fate(Enum):
    """What became of a request that failed; the values are those of PeerFailed: answered, reached."""

    NEVER_SENT = (True, False)
    REFUSED = (True, True)
    UNKNOWN = (False, True)


class Channel:
    """A connection to one peer, made when it is first needed and made again whenever it broke.

    `Channel(address)` must be called in the event loop that will use it.
    """

    def __init__(self, address: str) -> None:
        self.connection: Final = aio.insecure_channel(address, options=OPTIONS)
        """What the stubs of a peer are made of."""
        self._closed = False
        self.last_answer_s: float | None = None
        """When the peer last answered, be it with a refusal, by the time of the event loop."""
        self.last_error = ""
        """How the last call failed; empty if it did not."""
        self.silent = False
        """Whether the last call got no answer."""

    @property
    def state(self) -> grpc.ChannelConnectivity:
        """Whether there is a connection; asking makes none."""
        return self.connection.get_state()

    @property
    def connected(self) -> bool:
        """Whether there is a connection at this moment."""
        return self.connection.get_state() is grpc.ChannelConnectivity.READY

    async def call(
        self, method: "aio.UnaryUnaryMultiCallable[Request, Response]", request: Request, deadline_s: float
    ) -> Response:
        """Ask the peer; raise PeerFailed if it refuses, cannot be reached, or has not answered by the deadline."""
        now = asyncio.get_running_loop().time
        started_s = now()
        try:
            response: Response | None = await method(request, timeout=deadline_s)
        except aio.AioRpcError as error:
            in_time = now() - started_s < deadline_s * _PEERS_SHARE
            fate = self._fate(error.code(), error.details() or "", in_time=in_time)
            raise self._failed(error.code().name, error.details() or "", fate) from error
        except KeyError as error:  # gRPC looks up the status that the peer sent
            raise self._failed("UNKNOWN", f"status {error}, which does not exist", _Fate.REFUSED) from error
        except aio.UsageError as error:
            raise self._failed("UNAVAILABLE", "the connection is closed", _Fate.NEVER_SENT) from error
        except asyncio.CancelledError:
            if self._closed and not _is_cancelled():
                raise self._failed("CANCELLED", "the connection was closed", _Fate.UNKNOWN) from None
            raise
        if response is None:
            text = "the answer is not a message of the type it should be"
            raise self._failed("INTERNAL", text, _Fate.UNKNOWN)
        self.last_answer_s, self.last_error, self.silent = now(), "", False
        return response

    async def close(self) -> None:
        """Close the connection; calls that are under way fail."""
        self._closed = True
        await self.connection.close()

    def _failed(self, status: str, text: str, fate: _Fate) -> PeerFailed:
        """Return how a call failed, and remember it."""
        answered, reached = fate.value
        self.last_error = f"{status}: {text}"
        self.silent = not (answered and reached)
        if not self.silent:
            self.last_answer_s = asyncio.get_running_loop().time()
        return PeerFailed(status, text, answered=answered, reached=reached)

    def _fate(self, code: StatusCode, text: str, *, in_time: bool) -> _Fate:
        """Return what became of a request that ended so; `in_time`: before our own deadline can have run out."""
        if code is StatusCode.DEADLINE_EXCEEDED:
            return _Fate.REFUSED if in_time else _Fate.UNKNOWN
        if text.startswith(_NEVER_SENT):
            return _Fate.NEVER_SENT
        if code is StatusCode.CANCELLED or text.startswith(_BROKEN):
            return _Fate.UNKNOWN
        connected = self.connection.get_state() is grpc.ChannelConnectivity.READY
        return _Fate.REFUSED if connected or code not in _OURS_TOO else _Fate.UNKNOWN


def _is_cancelled() -> bool:
    """Whether somebody cancels the task itself, not only the call it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
