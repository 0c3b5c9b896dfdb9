"""Offsets asked of a Kafka broker: the high watermark of each partition, 0 for what is not there (yet)."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Final, TypeVar

import structlog
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, LeaderNotAvailableError, UnknownTopicOrPartitionError, for_code
from aiokafka.protocol.offset import OffsetRequest, OffsetResetStrategy
from msgspec import Struct

from sessiond.core.decide.streams import Offsets, partition_key, topics_of
from sessiond.core.errors import PeerFailed

log = structlog.get_logger(__name__)

Found = TypeVar("Found")

TOPICS_KEPT_S: Final = 1.0
"""How long a list of topics is good: readers ask for the streams of a session again and again."""
NO_REPLICA: Final = -1
UNCOMMITTED_TOO: Final = 0


class Place(Struct, frozen=True):
    """A partition of a topic."""

    topic: str
    partition: int

    @property
    def key(self) -> str:
        """How clients of streams name it."""
        return partition_key(self.topic, self.partition)


class KafkaOffsets:
    """Implements `app.ports.offsets.StreamOffsets`; it connects when it is asked first, and again after a failure.

    Without `partitions` each stream has a topic of its own, `<data source>.<stream>`; else it is a partition of the
    main topic. All topics are asked for at once: to ask for one by its name would create it.
    """

    def __init__(self, brokers: str, deadline_ms: int, partitions: Mapping[str, int] | None) -> None:
        self._brokers = brokers
        self._deadline_ms = deadline_ms
        self._partitions = partitions
        self._client: Any = None
        self._connecting = asyncio.Lock()
        self._known_until_s = 0.0

    async def of(self, data_source: str) -> Offsets:
        """Return the high watermarks of a data source."""
        return await self._within_deadline(self._offsets(data_source))

    async def streams(self, data_source: str) -> tuple[str, ...]:
        """Return the streams that are configured or, where each has a topic, those that have one."""
        return await self._within_deadline(self._streams(data_source))

    async def close(self) -> None:
        """Let go of the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _offsets(self, data_source: str) -> Offsets:
        streams = await self._streams(data_source)
        main, essentials = topics_of(data_source)
        wanted = [Place(main, 0), Place(essentials, 0)]
        if self._partitions is not None:
            wanted += [Place(main, partition) for partition in self._partitions.values()]
        else:
            wanted += [Place(f"{data_source}.{stream}", 0) for stream in streams]
        found = await self._high_watermarks(wanted)
        return Offsets({place.key: found.get(place, 0) for place in wanted}, streams)

    async def _streams(self, data_source: str) -> tuple[str, ...]:
        if self._partitions is not None:
            return tuple(self._partitions)
        topics: set[str] = (await self._informed()).cluster.topics()
        prefix = f"{data_source}."
        return tuple(sorted(topic.removeprefix(prefix) for topic in topics if topic.startswith(prefix)))

    async def _high_watermarks(self, wanted: Sequence[Place]) -> dict[Place, int]:
        """Return those of the partitions that there are; each is asked of its leader."""
        client = await self._informed()
        if not all(_is_there(client, place) for place in wanted):
            client = await self._informed(anew=True)
        by_leader: dict[int, dict[str, list[tuple[int, int]]]] = {}
        for place in wanted:
            if _is_there(client, place):
                topics = by_leader.setdefault(_leader(client, place), {})
                topics.setdefault(place.topic, []).append((place.partition, OffsetResetStrategy.LATEST))
        requests = {
            leader: OffsetRequest(NO_REPLICA, UNCOMMITTED_TOO, list(topics.items()))
            for leader, topics in by_leader.items()
        }
        answers = await asyncio.gather(*(client.send(leader, request) for leader, request in requests.items()))
        return {place: offset for answer in answers for place, offset in _read(answer)}

    async def _informed(self, *, anew: bool = False) -> Any:
        """Return a client that knows all topics, as they were a moment ago at the latest."""
        client = await self._connected()
        now_s = asyncio.get_running_loop().time()
        if anew or now_s >= self._known_until_s:
            if not await client.force_metadata_update():
                raise KafkaError("no broker tells which topics there are")
            self._known_until_s = now_s + TOPICS_KEPT_S
        return client

    async def _connected(self) -> Any:
        async with self._connecting:
            if self._client is None:
                client = AIOKafkaClient(
                    bootstrap_servers=self._brokers.split(","), request_timeout_ms=self._deadline_ms
                )
                try:
                    await client.bootstrap()
                except BaseException:
                    await client.close()
                    raise
                self._client = client
                log.info("broker_connected", brokers=self._brokers)
            return self._client

    async def _within_deadline(self, work: Awaitable[Found]) -> Found:
        try:
            async with asyncio.timeout(self._deadline_ms / 1000):
                return await work
        except TimeoutError:
            raise self._failed("DEADLINE_EXCEEDED", "no answer in time") from None
        except (KafkaError, OSError) as error:
            raise self._failed("UNAVAILABLE", str(error) or type(error).__name__) from error

    def _failed(self, status: str, text: str) -> PeerFailed:
        """Return the error for the caller; nothing was changed, so that it can simply ask again."""
        return PeerFailed(status, f"broker {self._brokers}: {text}", answered=True, reached=False)


def _is_there(client: Any, place: Place) -> bool:
    return place.partition in (client.cluster.partitions_for_topic(place.topic) or ())


def _leader(client: Any, place: Place) -> int:
    leader: int | None = client.cluster.leader_for_partition(place)
    if leader is None or leader < 0:
        raise LeaderNotAvailableError(place.key)
    return leader


def _read(answer: Any) -> list[tuple[Place, int]]:
    """Return the offsets of an answer; a partition that has just gone is none."""
    found: list[tuple[Place, int]] = []
    for topic, partitions in answer.topics:
        for partition, code, *moment in partitions:
            place, error = Place(topic, partition), for_code(code)
            if error is UnknownTopicOrPartitionError:
                continue
            if code:
                raise error(place.key)
            found.append((place, moment[0][0] if answer.API_VERSION == 0 else moment[1]))
    return found
