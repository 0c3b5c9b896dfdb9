"""The stream service over the wire, row by row of the reference (stream_api/behaviour.md 2, 3 and 5)."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from sessiond.pb.ma.streaming.api.v1 import api_pb2 as api
from sessiond.pb.ma.streaming.open_data.v1.open_data_pb2 import (
    EndOfSessionPacket,
    NewSessionPacket,
    SessionInfoPacket,
)
from tests.blackbox.streams import (
    CLIENTS,
    START,
    STOP,
    Client,
    StreamDaemon,
    Subscription,
    SyncClient,
    create,
    current,
    end,
    info,
    listening,
    new_source,
    streams,
)

pytestmark = [pytest.mark.blackbox, pytest.mark.asyncio(loop_scope="module")]

STORES = ("memory", "valkey")
MAPPINGS = [{"Stream": "Stream1", "Partition": 1}, {"Stream": "Stream2", "Partition": 2}]
NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=STORES)
async def daemon(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[StreamDaemon]:
    """Give a daemon that all tests share: each has data sources of its own."""
    url = "memory:" if request.param == "memory" else request.getfixturevalue("one_valkey").url
    config = {"store": {"url": url}, "stream_api": {"PartitionMappings": MAPPINGS}}
    async with streams(tmp_path_factory.mktemp("streams"), **config) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", params=CLIENTS)
async def client(request: pytest.FixtureRequest, daemon: StreamDaemon) -> AsyncIterator[Client]:
    """Give each kind of client."""
    connected = CLIENTS[request.param](daemon.process.address)
    yield connected
    await connected.close()


@pytest.fixture
def source() -> str:
    """Return a data source that no other test has."""
    return new_source()


def offsets(source: str) -> dict[str, int]:
    """Return the offsets of a data source without a broker."""
    return dict.fromkeys((f"{source}:0", f"{source}_essential:0", f"{source}:1", f"{source}:2"), 0)


# -- CreateSession


async def test_create_answers_with_what_was_said(client: Client, source: str) -> None:
    """The answer has the new key and the packet of the session, with its start offsets and all that was said."""
    said: dict[str, Any] = {"identifier": "Monza", "type": "Race", "version": 3, "details": {"lap": "1"}}
    response = await client.call(
        "CreateSession",
        api.CreateSessionRequest(
            data_source=source,
            utc_offset=Duration(seconds=-3600, nanos=-5),
            creation_time=Timestamp(seconds=5, nanos=7),
            associate_session_key=["a", "b"],
            **said,
        ),
    )
    packet = NewSessionPacket(
        data_source=source,
        topic_partition_offsets=offsets(source),
        utc_offset=Duration(seconds=-3600, nanos=-5),
        creation_time=Timestamp(seconds=5, nanos=7),
        session_info=SessionInfoPacket(data_source=source, associate_session_keys=["a", "b"], **said),
    )
    assert response == api.CreateSessionResponse(session_key=response.session_key, new_session=packet, success=True)


async def test_create_fills_in_what_was_not_said(client: Client, source: str) -> None:
    """Without a type it is a `Session`, of version 1, created now; an unset UTC offset stays unset."""
    response = await client.call("CreateSession", api.CreateSessionRequest(data_source=source))
    packet = response.new_session
    assert (packet.session_info.type, packet.session_info.version) == ("Session", 1)
    assert (packet.session_info.identifier, dict(packet.session_info.details)) == ("", {})
    assert packet.HasField("session_info")
    assert not packet.HasField("utc_offset")
    assert packet.creation_time.seconds > 1_700_000_000
    assert list(await current(client, source)) == [response.session_key]


async def test_keys_are_guids_of_version_4_in_lower_case(client: Client, source: str) -> None:
    """The service makes the key: a GUID of version 4, lower case, 8-4-4-4-12."""
    key = await create(client, source)
    assert str(uuid.UUID(key)) == key
    assert uuid.UUID(key).version == 4


@pytest.mark.parametrize("fields", [{"type": "über 🏎"}, {"associate_session_key": ["none", ""]}, {"details": {"": ""}}])
async def test_create_accepts_everything(client: Client, source: str, fields: dict[str, object]) -> None:
    """No input is refused: any type, associates that do not exist, an empty key of a detail."""
    key = await create(client, source, **fields)
    known = await info(client, key)
    assert known.type == fields.get("type", "Session")
    assert list(known.associate_session_keys) == fields.get("associate_session_key", [])
    assert dict(known.details) == fields.get("details", {})


async def test_an_empty_data_source_is_a_name(client: Client) -> None:
    """A session without a data source belongs to the data source with the empty name."""
    async with listening(client, START, "") as starts:
        key = await create(client, "")
        assert (await starts.next()).session_key == key
    assert key in await current(client, "")
    assert (await info(client, key)).data_source == ""


@pytest.mark.parametrize(
    "wrong",
    [
        {"utc_offset": Duration(seconds=1, nanos=-1)},
        {"utc_offset": Duration(seconds=2**62)},
        {"creation_time": Timestamp(nanos=-1)},
        {"creation_time": Timestamp(seconds=2**62)},
    ],
)
async def test_times_that_are_none_are_a_status(client: Client, source: str, wrong: dict[str, object]) -> None:
    """A duration or time that makes no sense is no session: the original fails with a status, too (behaviour.md 1)."""
    with pytest.raises(grpc.RpcError) as caught:
        await create(client, source, **wrong)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert await current(client, source) == []


# -- EndSession


@pytest.mark.parametrize("said", ["", "somebody else's"])
async def test_end_answers_with_the_record(client: Client, source: str, said: str) -> None:
    """Any caller may end any session: the data source of the answer is the session's, not that of the request."""
    key = await create(client, source)
    time = Timestamp(seconds=9, nanos=1)
    response = await client.call(
        "EndSession", api.EndSessionRequest(data_source=said, session_key=key, termination_time=time)
    )
    packet = EndOfSessionPacket(data_source=source, topic_partition_offsets=offsets(source), termination_time=time)
    assert response == api.EndSessionResponse(end_session=packet, success=True)
    known = await info(client, key)
    assert (known.is_complete, known.termination_time) == (True, time)


async def test_end_of_an_unknown_session_is_no_success(client: Client) -> None:
    """The flag says so, and nothing else is in the answer."""
    assert await end(client, NOBODY) == api.EndSessionResponse()


async def test_a_second_end_succeeds_and_is_not_told(client: Client, source: str) -> None:
    """It answers as the first did, with the time of the first, and nobody hears of it."""
    async with listening(client, STOP, source) as stops:
        first, second = await create(client, source), await create(client, source)
        answer = await end(client, first)
        again = await client.call(
            "EndSession", api.EndSessionRequest(session_key=first, termination_time=Timestamp(seconds=1))
        )
        assert again == answer
        await end(client, second)
        assert [(await stops.next()).session_key for _ in range(2)] == [first, second]


# -- GetCurrentSessions


async def test_sessions_are_listed_in_order_ended_ones_too(client: Client, source: str) -> None:
    """All sessions of a data source, oldest first, so that the newest live one is found from the end."""
    keys = [await create(client, source) for _ in range(5)]
    await end(client, keys[1])
    await end(client, keys[4])
    assert await current(client, source) == keys
    newest = [key for key in reversed(keys) if not (await info(client, key)).is_complete]
    assert newest == [keys[3], keys[2], keys[0]]


async def test_data_sources_are_told_apart_exactly(client: Client, source: str) -> None:
    """Case counts, a part of a name is none, and an unknown name has no sessions, which is a success."""
    key, other = await create(client, source), await create(client, source.lower())
    assert await current(client, source) == [key]
    assert await current(client, source.lower()) == [other]
    assert await current(client, source[:-1]) == []


# -- GetSessionInfo


async def test_info_has_everything(client: Client, source: str) -> None:
    """All that was said, the start offsets, the streams that are configured, and a UTC offset in any case."""
    created = Timestamp(seconds=7)
    key = await create(
        client, source, identifier="Monza", type="Race", version=2, details={"lap": "1"}, creation_time=created,
        utc_offset=Duration(seconds=60), associate_session_key=["x"],
    )  # fmt: skip
    assert await info(client, key) == api.GetSessionInfoResponse(
        data_source=source,
        identifier="Monza",
        type="Race",
        version=2,
        associate_session_keys=["x"],
        is_complete=False,
        streams=["Stream1", "Stream2"],
        topic_partition_offsets=offsets(source),
        main_offset=0,
        essentials_offset=0,
        details={"lap": "1"},
        utc_offset=Duration(seconds=60),
        success=True,
        creation_time=created,
    )
    silent = await info(client, await create(client, source))
    assert silent.HasField("utc_offset")
    assert silent.HasField("creation_time")
    assert not silent.HasField("termination_time")


async def test_info_of_an_unknown_session_is_no_success(client: Client) -> None:
    """The flag says so, and nothing else is in the answer."""
    assert await info(client, NOBODY) == api.GetSessionInfoResponse()


# -- updates


async def identify(client: Client, key: str, identifier: str) -> bool:
    """Give a session a name."""
    request = api.UpdateSessionIdentifierRequest(session_key=key, identifier=identifier)
    return bool((await client.call("UpdateSessionIdentifier", request)).success)


async def describe(client: Client, key: str, **details: str) -> bool:
    """Say something about a session."""
    request = api.UpdateSessionDetailsRequest(session_key=key, details=details)
    return bool((await client.call("UpdateSessionDetails", request)).success)


async def associate(client: Client, key: str, other: str) -> bool:
    """Tie a session to a session."""
    request = api.AddAssociateSessionRequest(session_key=key, associate_session_key=other)
    return bool((await client.call("AddAssociateSession", request)).success)


@pytest.mark.parametrize("over", [False, True])
async def test_updates_work_before_and_after_the_end(client: Client, source: str, over: bool) -> None:
    """A name is replaced, but not by an empty one; details are merged; associates are appended, whatever they are."""
    key, child = await create(client, source, details={"lap": "1", "tyre": "soft"}), await create(client, source)
    if over:
        await end(client, key)
    assert await identify(client, key, "Monza")
    assert await identify(client, key, "")
    assert await describe(client, key, lap="2", wind="")
    assert await describe(client, key)
    for other in (child, child, key, "nobody", ""):
        assert await associate(client, key, other)
    known = await info(client, key)
    assert known.identifier == "Monza"
    assert dict(known.details) == {"lap": "2", "tyre": "soft", "wind": ""}
    assert list(known.associate_session_keys) == [child, child, key, "nobody", ""]
    assert known.is_complete is over
    assert list((await info(client, child)).associate_session_keys) == []


async def test_an_update_without_effect_succeeds(client: Client, source: str) -> None:
    """Saying what is known already is a success and changes nothing."""
    key = await create(client, source, identifier="Monza", details={"lap": "1"})
    before = await info(client, key)
    assert await identify(client, key, "Monza")
    assert await describe(client, key, lap="1")
    assert await info(client, key) == before


async def test_updates_of_an_unknown_session_are_no_success(client: Client) -> None:
    """Each of them says so by its flag."""
    assert not await identify(client, NOBODY, "Monza")
    assert not await describe(client, NOBODY, lap="1")
    assert not await associate(client, NOBODY, NOBODY)


async def test_an_update_is_no_news(client: Client, source: str) -> None:
    """There is no notification of an update: the next one is that of the next session."""
    async with listening(client, START, source) as starts, listening(client, STOP, source) as stops:
        key = await create(client, source)
        assert await identify(client, key, "Monza")
        assert await describe(client, key, lap="1")
        assert await associate(client, key, key)
        other = await create(client, source)
        await end(client, other)
        assert [(await starts.next()).session_key for _ in range(2)] == [key, other]
        assert (await stops.next()).session_key == other


# -- notifications


async def test_a_notification_has_key_and_data_source(client: Client, source: str) -> None:
    """Nothing else is in it: what else there is, the client asks for."""
    async with listening(client, START, source) as starts, listening(client, STOP, source) as stops:
        key = await create(client, source)
        assert await starts.next() == api.GetSessionStartNotificationResponse(session_key=key, data_source=source)
        await end(client, key)
        assert await stops.next() == api.GetSessionStopNotificationResponse(session_key=key, data_source=source)


async def test_subscribers_hear_of_their_data_source_only(client: Client, source: str) -> None:
    """Names are compared exactly; there is no wildcard."""
    others = [source.lower(), source[:-1], f"{source}0", "", "*"]
    async with listening(client, START, source) as starts:
        for other in others:
            await create(client, other)
        key = await create(client, source)
        assert (await starts.next()).session_key == key


async def test_there_is_no_history(client: Client, source: str) -> None:
    """A subscriber hears of what begins and ends from now on."""
    before = await create(client, source)
    ended = await create(client, source)
    await end(client, ended)
    async with listening(client, START, source) as starts, listening(client, STOP, source) as stops:
        key = await create(client, source)
        await end(client, before)
        assert (await starts.next()).session_key == key
        assert (await stops.next()).session_key == before


async def test_a_client_knows_when_it_is_subscribed(client: Client, source: str) -> None:
    """Metadata comes at once: whoever has it misses nothing, though nothing has been told yet."""
    async with asyncio.timeout(10):
        async with listening(client, START, source):
            pass


async def test_a_notification_comes_before_the_answer(client: Client, source: str) -> None:
    """Who creates and listens on one connection has heard of a session when it is told its key."""
    heard: list[str] = []

    async def read() -> None:
        while True:
            heard.append((await starts.next()).session_key)
            later.set()

    later = asyncio.Event()
    async with listening(client, START, source) as starts:
        reader = asyncio.create_task(read())
        for number in range(1, 31):
            key = await create(client, source)
            while isinstance(client, SyncClient) and len(heard) < number:  # it reads in a thread of its own
                later.clear()
                await later.wait()
            assert heard[number - 1 :] == [key]
        starts.cancel()
        await asyncio.gather(reader, return_exceptions=True)


async def test_events_come_in_the_order_of_the_list(client: Client, source: str) -> None:
    """Whatever is created at the same time, every subscriber hears of it in the order in which it is listed."""
    async with listening(client, START, source) as one, listening(client, START, source) as two:
        await asyncio.gather(*(create(client, source) for _ in range(40)))
        heard = [[(await starts.next()).session_key for _ in range(40)] for starts in (one, two)]
        assert heard[0] == heard[1] == await current(client, source)


async def test_subscribers_that_come_while_it_is_told_miss_nothing(client: Client, source: str) -> None:
    """From its first notification on, a subscriber has them all, whenever it came."""

    async def create_many() -> list[str]:
        return [await create(client, source) for _ in range(60)]

    async def all_until(subscription: Subscription, last: str) -> list[str]:
        heard = [""]
        while heard[-1] != last:
            heard.append((await subscription.next()).session_key)
        return heard[1:]

    creating = asyncio.create_task(create_many())
    async with AsyncExitStack() as stack:
        listeners = [await stack.enter_async_context(listening(client, START, source)) for _ in range(10)]
        keys = [*await creating, await create(client, source)]
        for listener in listeners:
            heard = await all_until(listener, keys[-1])
            assert heard == keys[-len(heard) :]


async def test_an_unknown_data_source_can_be_subscribed_to(client: Client, source: str) -> None:
    """The stream is open and silent until a session of that name begins."""
    async with listening(client, START, source) as starts:
        assert await current(client, source) == []
        key = await create(client, source)
        assert (await starts.next()).session_key == key


async def test_a_subscriber_that_hangs_up_is_gone_at_once(daemon: StreamDaemon, client: Client, source: str) -> None:
    """It is not told of any more before anything else happens, and others hear on."""
    before = await daemon.subscribers()
    async with listening(client, START, source) as staying:
        async with listening(client, START, source):
            await daemon.until_subscribers(before + 2)
        await daemon.until_subscribers(before + 1)
        key = await create(client, source)
        assert (await staying.next()).session_key == key
    await daemon.until_subscribers(before)


# -- what is seen from outside


async def test_the_gauge_is_true_at_all_times(daemon: StreamDaemon, client: Client, source: str) -> None:
    """It counts the sessions of a data source that are known, ended ones too, as soon as they are."""

    async def count() -> float | None:
        return (await daemon.metrics("stream_api_sessions_total")).get(source)

    assert await count() is None
    first = await create(client, source)
    assert await count() == 1
    await create(client, source)
    assert await count() == 2
    await end(client, first)
    assert await count() == 2


@pytest.mark.parametrize("kind", CLIENTS)
async def test_switched_off_it_answers_without_success(tmp_path_factory: pytest.TempPathFactory, kind: str) -> None:
    """With IntegrateSessionManagement: false every call lacks success, and streams end at once and well."""
    folder = tmp_path_factory.mktemp("off")
    async with streams(folder, stream_api={"IntegrateSessionManagement": False}) as off:
        client = CLIENTS[kind](off.process.address)
        for method, request, nothing in (
            ("CreateSession", api.CreateSessionRequest(data_source="a"), api.CreateSessionResponse()),
            ("EndSession", api.EndSessionRequest(), api.EndSessionResponse()),
            ("GetCurrentSessions", api.GetCurrentSessionsRequest(), api.GetCurrentSessionsResponse()),
            ("GetSessionInfo", api.GetSessionInfoRequest(), api.GetSessionInfoResponse()),
            ("UpdateSessionIdentifier", api.UpdateSessionIdentifierRequest(), api.UpdateSessionIdentifierResponse()),
            ("UpdateSessionDetails", api.UpdateSessionDetailsRequest(), api.UpdateSessionDetailsResponse()),
            ("AddAssociateSession", api.AddAssociateSessionRequest(), api.AddAssociateSessionResponse()),
        ):
            assert await client.call(method, request) == nothing
        for method in (START, STOP):
            assert await client.subscribe(method, "a").status() == (grpc.StatusCode.OK, "")
        await client.close()


@pytest.mark.parametrize("kind", CLIENTS)
async def test_streams_end_orderly_with_the_daemon(tmp_path_factory: pytest.TempPathFactory, kind: str) -> None:
    """Subscribers are told UNAVAILABLE when the daemon stops, at once, and it exits well."""
    async with streams(tmp_path_factory.mktemp("stop")) as stopping:
        client = CLIENTS[kind](stopping.process.address)
        async with listening(client, START, "a") as starts, listening(client, STOP, "a") as stops:
            ends = [asyncio.create_task(stream.status()) for stream in (starts, stops)]
            assert await stopping.process.stop() == 0
            assert [await end for end in ends] == [(grpc.StatusCode.UNAVAILABLE, "sessiond is shutting down")] * 2
        await client.close()
