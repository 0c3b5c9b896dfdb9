"""What it costs to tell 1,000 watchers of a session: the CPU time per message delivered, beside a bare fan-out."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench import processes
from bench.load import Channel, call_all, channel
from bench.processes import MEASURED_CORE, Measured
from bench.rows import Better, Plan, Row, Sample
from sessiond.pb.sessiond.v1 import session_pb2, session_service_pb2

WATCHERS: Final = 1000
PUBLISHED: Final = 60
NATIVE: Final = "/sessiond.v1.SessionService/"


class Audience(NamedTuple):
    """Everybody who listens to one server, and what they have heard."""

    streams: Sequence[Any]
    readers: Sequence["asyncio.Task[None]"]
    heard: list[int]
    sizes: list[int]

    async def has_heard(self, messages: int) -> None:
        """Wait until everybody has heard so much, all together."""
        while self.heard[0] < messages:  # noqa: ASYNC110, an event a message would be most of what is measured
            await asyncio.sleep(0.02)

    def leave(self) -> None:
        """Stop listening."""
        for stream in self.streams:
            stream.cancel()
        for reader in self.readers:
            reader.cancel()


async def audience(connection: Channel, method: str, request: bytes, size: int) -> Audience:
    """Let so many listen; return as soon as each has got its first message."""
    streams = [connection.unary_stream(method)(request) for _ in range(size)]
    heard, sizes = [0], [0]

    async def read(stream: Any) -> None:
        async for message in stream:
            heard[0] += 1
            sizes[0] = max(sizes[0], len(message))

    readers = [asyncio.create_task(read(stream)) for stream in streams]
    listening = Audience(streams, readers, heard, sizes)
    await listening.has_heard(size)
    return listening


async def cost_us(server: Measured, connection: Channel, listening: Audience, method: str, message: bytes) -> float:
    """Publish, one after the other; return what each message to each listener costs."""
    before, heard = await server.quiet(), listening.heard[0]
    for _ in range(PUBLISHED):
        await call_all(connection, method, [message], 1)
    await listening.has_heard(heard + PUBLISHED * len(listening.streams))
    cpu_s = await server.quiet() - before
    return cpu_s / (listening.heard[0] - heard) * 1e6


async def watch(plan: Plan) -> AsyncIterator[Row]:
    """Measure how CREATED of each new session gets to everybody."""
    watchers = plan.count(WATCHERS)
    create = session_service_pb2.CreateSessionRequest(session=session_pb2.Session(type="execution"))
    request = session_service_pb2.WatchSessionsRequest(kinds=[session_service_pb2.SESSION_EVENT_KIND_CREATED])
    samples: list[Sample] = []
    async with AsyncExitStack() as stack:
        bare = await stack.enter_async_context(
            processes.program(str(Path(__file__).parent / "fanout.py"), core=MEASURED_CORE)
        )
        server = await stack.enter_async_context(processes.daemon(plan.folder))
        to_bare = await stack.enter_async_context(channel(bare.address))
        to_server = await stack.enter_async_context(channel(server.address))
        watching = await audience(to_server, f"{NATIVE}WatchSessions", request.SerializeToString(), watchers)
        listening = await audience(to_bare, "/bench.Fanout/Listen", b"", watchers)
        for number in range(plan.rounds):
            plan.progress(f"watch, {watchers} subscribers: round {number + 1} of {plan.rounds}")
            measured = await cost_us(server, to_server, watching, f"{NATIVE}CreateSession", create.SerializeToString())
            message = b"x" * watching.sizes[0]
            samples.append(Sample(measured, await cost_us(bare, to_bare, listening, "/bench.Fanout/Publish", message)))
        for everybody in (watching, listening):
            everybody.leave()
    yield Row(
        f"watch, {watchers:,} subscribers", Better.MORE, 0.8, "of bare stream fan-out",
        "us of CPU per message", tuple(samples),
    )  # fmt: skip
