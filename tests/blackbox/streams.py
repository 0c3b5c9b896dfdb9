"""A daemon that serves streams, and its clients: the sync and the aio one behind the same few methods."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, Protocol

import grpc
import yaml
from grpc import aio

from sessiond.pb.ma.streaming.api.v1 import api_pb2 as api
from sessiond.pb.ma.streaming.api.v1 import api_pb2_grpc
from tests.blackbox.harness import CLIENT_OPTIONS, Daemon, Refusal, refusal
from tests.blackbox.peers import Changes

START: Final = "GetSessionStartNotification"
STOP: Final = "GetSessionStopNotification"
REQUESTS: Final[dict[str, type[Any]]] = {
    START: api.GetSessionStartNotificationRequest,
    STOP: api.GetSessionStopNotificationRequest,
}
OPTIONS: Final = tuple(option for option in CLIENT_OPTIONS if option[0] != "grpc.service_config")
"""Published clients have no deadlines."""

_names = itertools.count(1)


def new_source(name: str = "Car") -> str:
    """Return a data source that no other test has; less its last letter, it is still nobody else's."""
    return f"{name} {next(_names):05d}x"


class Subscription(Protocol):
    """A notification stream as a test reads it."""

    async def begun(self) -> None:
        """Return when the server has taken the subscription."""
        ...

    async def next(self) -> Any:
        """Return the next notification."""
        ...

    def cancel(self) -> None:
        """Hang up."""
        ...

    async def status(self) -> tuple[grpc.StatusCode, str]:
        """Return how the stream ended; what is left in it is read first."""
        ...


class Client(Protocol):
    """A client of the service."""

    async def call(self, method: str, request: Any) -> Any:
        """Return the answer to a call."""
        ...

    def subscribe(self, method: str, data_source: str) -> Subscription:
        """Open a notification stream."""
        ...

    async def close(self) -> None:
        """Let go of the connection."""
        ...


class AioClient:
    """The client of `grpc.aio`."""

    def __init__(self, address: str) -> None:
        self._channel = aio.insecure_channel(address, options=OPTIONS)
        self._stub = api_pb2_grpc.SessionManagementServiceStub(self._channel)

    async def call(self, method: str, request: Any) -> Any:
        """Return the answer to a call."""
        return await getattr(self._stub, method)(request)

    def subscribe(self, method: str, data_source: str) -> "AioSubscription":
        """Open a notification stream."""
        return AioSubscription(getattr(self._stub, method)(REQUESTS[method](data_source=data_source)))

    async def close(self) -> None:
        """Let go of the connection."""
        await self._channel.close()


class AioSubscription:
    """A stream of `grpc.aio`."""

    def __init__(self, call: Any) -> None:
        self._call = call

    async def begun(self) -> None:
        """Return when the server has taken the subscription."""
        await self._call.initial_metadata()

    async def next(self) -> Any:
        """Return the next notification."""
        return await self._call.read()

    def cancel(self) -> None:
        """Hang up."""
        self._call.cancel()

    async def status(self) -> tuple[grpc.StatusCode, str]:
        """Return how the stream ended; what is left in it is read first."""
        with suppress(aio.AioRpcError):
            while await self._call.read() is not aio.EOF:
                pass
        return await self._call.code(), await self._call.details()

    async def refused(self) -> Refusal:
        """Return why the stream was ended; what is left in it is read first."""
        return await refusal(self._read_out())

    async def _read_out(self) -> None:
        while await self._call.read() is not aio.EOF:
            pass


class SyncClient:
    """The client of `grpc`, which blocks; each of its calls has a thread."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address, options=OPTIONS)
        stub: Any = api_pb2_grpc.SessionManagementServiceStub
        self._stub = stub(self._channel)  # of the two kinds of channel, its type knows but one

    async def call(self, method: str, request: Any) -> Any:
        """Return the answer to a call."""
        return await asyncio.to_thread(getattr(self._stub, method), request)

    def subscribe(self, method: str, data_source: str) -> "SyncSubscription":
        """Open a notification stream."""
        return SyncSubscription(getattr(self._stub, method)(REQUESTS[method](data_source=data_source)))

    async def close(self) -> None:
        """Let go of the connection."""
        self._channel.close()


class SyncSubscription:
    """A stream of `grpc`."""

    def __init__(self, call: Any) -> None:
        self._call = call

    async def begun(self) -> None:
        """Return when the server has taken the subscription."""
        await asyncio.to_thread(self._call.initial_metadata)

    async def next(self) -> Any:
        """Return the next notification."""
        return await asyncio.to_thread(next, self._call)

    def cancel(self) -> None:
        """Hang up."""
        self._call.cancel()

    async def status(self) -> tuple[grpc.StatusCode, str]:
        """Return how the stream ended; what is left in it is read first."""
        return await asyncio.to_thread(self._end)

    def _end(self) -> tuple[grpc.StatusCode, str]:
        with suppress(grpc.RpcError):
            for _ in self._call:
                pass
        return self._call.code(), self._call.details()


CLIENTS: Final[dict[str, type[AioClient] | type[SyncClient]]] = {"aio": AioClient, "sync": SyncClient}


class StreamDaemon:
    """A daemon without peers."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self.changes = Changes()
        self._file = folder / "sessiond.yml"
        listen = {"server": {"listen": "127.0.0.1:0"}, "metrics": {"listen": "127.0.0.1:0"}}
        self._file.write_text(yaml.safe_dump({**listen, **config}), encoding="utf-8")
        self.process = Daemon(self._file, self.changes, {})

    async def metrics(self, name: str) -> dict[str, float]:
        """Return the values of a metric with one label."""
        host, _, port = self.process.metrics_address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
        lines = (await reader.read()).decode().splitlines()
        writer.close()
        await writer.wait_closed()
        found = (line.rpartition(" ") for line in lines if line.startswith(f"{name}{{"))
        return {label.partition('="')[2].rpartition('"')[0]: float(value) for label, _, value in found}

    async def subscribers(self) -> float:
        """Return how many subscribers the daemon has."""
        return sum((await self.metrics("sessiond_stream_subscribers")).values())

    async def until_subscribers(self, count: float) -> None:
        """Return when the daemon has so many subscribers; nothing but the metric says so."""
        async with asyncio.timeout(15):
            while await self.subscribers() != count:  # noqa: ASYNC110, each look is a call that takes its time
                await asyncio.sleep(0.01)


@asynccontextmanager
async def streams(folder: Path, **config: Any) -> AsyncIterator[StreamDaemon]:
    """Run a daemon; it must not have met what it does not expect."""
    daemon = StreamDaemon(folder, config)
    try:
        await daemon.process.start()
        yield daemon
        assert daemon.process.failures() == []
    finally:
        await daemon.process.close()


@asynccontextmanager
async def listening(client: Client, method: str, data_source: str) -> AsyncIterator[Subscription]:
    """Subscribe, from the moment at which nothing is missed any more."""
    subscription = client.subscribe(method, data_source)
    try:
        await subscription.begun()
        yield subscription
    finally:
        subscription.cancel()


async def create(client: Client, data_source: str, **fields: Any) -> str:
    """Create a session; return its key."""
    response = await client.call("CreateSession", api.CreateSessionRequest(data_source=data_source, **fields))
    assert response.success
    return str(response.session_key)


async def end(client: Client, key: str) -> api.EndSessionResponse:
    """End a session."""
    response: api.EndSessionResponse = await client.call("EndSession", api.EndSessionRequest(session_key=key))
    return response


async def info(client: Client, key: str) -> api.GetSessionInfoResponse:
    """Return what is known about a session."""
    response: api.GetSessionInfoResponse = await client.call(
        "GetSessionInfo", api.GetSessionInfoRequest(session_key=key)
    )
    return response


async def current(client: Client, data_source: str) -> list[str]:
    """Return the sessions of a data source."""
    response = await client.call("GetCurrentSessions", api.GetCurrentSessionsRequest(data_source=data_source))
    assert response.success
    return list(response.session_keys)
