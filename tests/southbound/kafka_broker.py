"""A scripted Kafka broker: speaks as much of the protocol, in its own words, as is needed to be asked for offsets.

It knows ApiVersions 0, Metadata 1 and ListOffsets 1 (kafka.apache.org/protocol), in one process that plays all nodes.
"""

import asyncio
import struct
from typing import Final

LIST_OFFSETS: Final = 2
METADATA: Final = 3
API_VERSIONS: Final = 18
VERSIONS: Final = ((LIST_OFFSETS, 1, 1), (METADATA, 1, 1), (API_VERSIONS, 0, 0))
UNKNOWN_TOPIC_OR_PARTITION: Final = 3
NODE: Final = 7


class KafkaBroker:
    """One node that leads every partition; `topics` holds the next offset of each partition, by topic."""

    def __init__(self) -> None:
        self.topics: dict[str, dict[int, int]] = {}
        self.leaderless: set[str] = set()
        self.errors: dict[str, int] = {}
        """Topics whose offsets are answered with an error code."""
        self.silent = False
        """Requests are taken and not answered."""
        self.metadata_asked = 0
        self.named: list[str] = []
        """Topics that were asked for by name, which makes a real broker create them."""
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._port = 0

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self._port}"

    async def start(self) -> "KafkaBroker":
        """Listen, on the same port as before if there was one."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """Be away."""
        if self._server is not None:
            self._server.close()
            for writer in self._writers:
                writer.transport.abort()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                (length,) = struct.unpack(">i", await reader.readexactly(4))
                request = Request(await reader.readexactly(length))
                if not self.silent:
                    answer = struct.pack(">i", request.correlation) + self._answer(request)
                    writer.write(struct.pack(">i", len(answer)) + answer)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def _answer(self, request: "Request") -> bytes:
        match request.key:
            case 18:
                return struct.pack(">hi", 0, len(VERSIONS)) + b"".join(struct.pack(">hhh", *one) for one in VERSIONS)
            case 3:
                return self._metadata(request)
            case 2:
                return self._offsets(request)
        raise AssertionError(f"nobody asks this broker for {request.key}")

    def _metadata(self, request: "Request") -> bytes:
        self.metadata_asked += 1
        self.named += [request.text() for _ in range(request.number(">i"))]
        broker = struct.pack(">i", NODE) + _text("127.0.0.1") + struct.pack(">ih", self._port, -1)
        topics = [
            struct.pack(">h", 0)
            + _text(name)
            + struct.pack(">?", False)
            + _array([self._partition(name, partition) for partition in partitions])
            for name, partitions in self.topics.items()
        ]
        return _array([broker]) + struct.pack(">i", NODE) + _array(topics)

    def _partition(self, topic: str, partition: int) -> bytes:
        leader = -1 if topic in self.leaderless else NODE
        replicas = _array([struct.pack(">i", NODE)])
        return struct.pack(">hii", 0, partition, leader) + replicas + replicas

    def _offsets(self, request: "Request") -> bytes:
        assert request.number(">i") == -1, "no replica asks"
        topics = []
        for _ in range(request.number(">i")):
            name = request.text()
            partitions = []
            for _ in range(request.number(">i")):
                partition, when = request.number(">i"), request.number(">q")
                assert when == -1, "the end is asked for"
                offset = self.topics.get(name, {}).get(partition)
                code = self.errors.get(name, 0) or (UNKNOWN_TOPIC_OR_PARTITION if offset is None else 0)
                partitions.append(struct.pack(">ihqq", partition, code, -1, -1 if offset is None else offset))
            topics.append(_text(name) + _array(partitions))
        return _array(topics)


class Request:
    """A request that is read from its beginning to its end."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._at = 0
        self.key = self.number(">h")
        self.version = self.number(">h")
        self.correlation = self.number(">i")
        self.text()
        assert (self.key, self.version, self.version) in VERSIONS

    def number(self, form: str) -> int:
        """Return the next number."""
        (value,) = struct.unpack_from(form, self._octets, self._at)
        self._at += struct.calcsize(form)
        return int(value)

    def text(self) -> str:
        """Return the next text."""
        length = self.number(">h")
        self._at += max(0, length)
        return self._octets[self._at - max(0, length) : self._at].decode()


def _text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode()


def _array(items: list[bytes]) -> bytes:
    return struct.pack(">i", len(items)) + b"".join(items)
