"""The load: so many callers, each of which makes one call after the other, with messages that are ready to be sent."""

import asyncio
import statistics
from collections.abc import Sequence
from time import perf_counter
from typing import NamedTuple

from grpc import aio

Channel = aio.Channel


class Load(NamedTuple):
    """What became of many calls: answers in the order of the requests, how long each took, and all together."""

    answers: list[bytes]
    took_s: list[float]
    wall_s: float

    @property
    def calls_per_s(self) -> float:
        """How many calls were answered in a second."""
        return len(self.answers) / self.wall_s

    def quantile_ms(self, percent: int) -> float:
        """Return a quantile of how long a call took."""
        return statistics.quantiles(self.took_s, n=100)[percent - 1] * 1000


def channel(address: str) -> Channel:
    """Return a connection of one's own."""
    options = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1))
    return aio.insecure_channel(address, options=options)


async def call_all(connection: Channel, method: str, requests: Sequence[bytes], callers: int) -> Load:
    """Make one call for each request, so many at a time; every one must succeed."""
    call: aio.UnaryUnaryMultiCallable[bytes, bytes] = connection.unary_unary(method)
    answers: list[bytes] = [b""] * len(requests)
    took: list[float] = [0.0] * len(requests)
    waiting = iter(range(len(requests)))

    async def one_caller() -> None:
        for number in waiting:
            started = perf_counter()
            answers[number] = await call(requests[number])
            took[number] = perf_counter() - started

    started = perf_counter()
    await asyncio.gather(*(one_caller() for _ in range(callers)))
    return Load(answers, took, perf_counter() - started)
