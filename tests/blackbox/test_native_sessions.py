"""Native sessions over the wire, requirement by requirement: W1 to W9 and L1 to L3 (W8 has a module of its own)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from itertools import count

import grpc
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from sessiond.pb.sessiond.v1 import session_pb2 as session
from sessiond.pb.sessiond.v1 import session_service_pb2 as service
from tests.blackbox.harness import Refusal, refusal, refusal_of
from tests.blackbox.native import Client, NativeDaemon, details_of, reason_of, said, sessions, state_of

pytestmark = [pytest.mark.blackbox, pytest.mark.asyncio(loop_scope="module")]

STORES = ("memory", "valkey")
WORKFLOWS = ("ussd", "voice", "sms", "payment")
Code = grpc.StatusCode

_numbers = count(1)


def ms(time: Timestamp) -> int:
    """Return a time as unix milliseconds."""
    return time.ToMilliseconds()


def span_ms(begin: Timestamp, end: Timestamp) -> int:
    """Return how long it is from one time to another."""
    return ms(end) - ms(begin)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=STORES)
async def daemon(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[NativeDaemon]:
    """Give a daemon that all tests share: each has sessions of its own."""
    url = "memory:" if request.param == "memory" else request.getfixturevalue("one_valkey").url
    async with sessions(tmp_path_factory.mktemp("native"), store={"url": url}) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def client(daemon: NativeDaemon) -> Client:
    """Give a client."""
    return daemon.client()


@pytest.fixture
def msisdn() -> str:
    """Return a phone number that no other test has."""
    return f"+1555{next(_numbers):07d}"


class TestW1:
    """Sessions of workflows, each with a phone number and data."""

    @pytest.mark.parametrize("kind", WORKFLOWS)
    async def test_a_session_has_what_was_said(self, client: Client, msisdn: str, kind: str) -> None:
        """A session is active at once, with its number and whatever JSON its owner wants to keep."""
        data = {"menu": "balance", "step": 2.0, "trail": ["1", {"a": None}], "paid": False, "empty": {}}
        answer = await client.made(said(kind, msisdn=msisdn, details=data))
        made = answer.session
        assert answer.created
        assert (made.type, made.msisdn, state_of(made)) == (kind, msisdn, "ACTIVE")
        assert made.origin == session.SESSION_ORIGIN_NATIVE
        assert details_of(made) == data
        assert made == await client.get(made.key, peek=True)

    @pytest.mark.parametrize("wrong", ["15550100001", "+0123", "+1555010000112345", "+1555o"])
    async def test_a_number_is_one(self, client: Client, wrong: str) -> None:
        """A number that is not E.164 is refused by the path of its field."""
        refused = await refusal(client.create(msisdn=wrong))
        assert (refused.code, refused.reason) == (Code.INVALID_ARGUMENT, "FIELD_INVALID")
        assert refused.fields == ("session.msisdn",)


class TestW2:
    """Create, get, update, end and delete; get-or-create; the active session of a number."""

    async def test_from_create_to_delete(self, client: Client, msisdn: str) -> None:
        """A session lives through all that can be asked for."""
        made = await client.create(msisdn=msisdn, details={"a": 1, "b": {"x": 1, "y": 2}})
        changed = await client.update(made.key, details={"b": {"z": 3}, "c": "new"})
        assert details_of(changed) == {"a": 1, "b": {"z": 3}, "c": "new"}
        ended = await client.end(made.key, message="done")
        assert (state_of(ended), reason_of(ended), ended.end_message) == ("CLOSED", "CLIENT", "done")
        assert details_of(await client.get(made.key)) == details_of(changed)
        await client.delete(made.key)
        assert (await client.missing(made.key)).reason == "SESSION_NOT_FOUND"

    async def test_a_key_that_comes_back(self, client: Client) -> None:
        """A session with the key of one that was deleted is listed once, on one page."""
        key, other = f"again-{next(_numbers)}", f"again-{next(_numbers)}"
        for _ in range(3):
            await client.create(key=key)
            await client.delete(key, force=True)
        for made in (key, other):
            await client.create(key=made)
        for order in ("create_time", "create_time desc"):
            found: list[str] = []
            request = service.ListSessionsRequest(filter="key = again-*", order_by=order, page_size=1)
            while len(found) < 3:
                page = await client.stub.ListSessions(request)
                found += [session.key for session in page.sessions]
                request.page_token = page.next_page_token
                if not page.next_page_token:
                    break
            assert sorted(found) == sorted([key, other])

    async def test_get_or_create(self, client: Client, msisdn: str) -> None:
        """With reuse_active a trigger gets the session that its number has, or a new one once that is over."""
        first = await client.made(said("ussd", msisdn=msisdn), reuse_active=True)
        again = await client.made(said("ussd", msisdn=msisdn), reuse_active=True)
        other = await client.made(said("sms", msisdn=msisdn), reuse_active=True)
        assert (first.created, again.created, other.created) == (True, False, True)
        assert again.session.key == first.session.key != other.session.key
        await client.end(first.session.key)
        assert (await client.made(said("ussd", msisdn=msisdn), reuse_active=True)).created

    async def test_a_number_has_one_session_of_a_type(self, client: Client, msisdn: str) -> None:
        """A second one is refused while the first has not ended."""
        first = await client.create(msisdn=msisdn)
        refused = await refusal(client.create(msisdn=msisdn))
        assert (refused.code, refused.reason) == (Code.ALREADY_EXISTS, "NAME_TAKEN")
        await client.end(first.key)
        assert state_of(await client.create(msisdn=msisdn)) == "ACTIVE"

    async def test_look_up_by_number_and_type(self, client: Client, msisdn: str) -> None:
        """The active session of a number is found; one that is paused is told apart from none."""
        lookup = service.ActiveLookup(msisdn=msisdn, type="ussd")

        async def found() -> session.Session:
            return (await client.stub.GetSession(service.GetSessionRequest(active=lookup))).session

        assert (await refusal(found())).reason == "SESSION_NOT_FOUND"
        made = await client.create(msisdn=msisdn)
        assert (await found()).key == made.key
        await client.pause(made.key)
        paused = await refusal(found())
        assert (paused.code, paused.reason) == (Code.FAILED_PRECONDITION, "SESSION_NOT_ACTIVE")
        await client.end(made.key)
        assert (await refusal(found())).reason == "SESSION_NOT_FOUND"


class TestW3:
    """Times to live, and activity."""

    async def test_a_session_lives_for_an_hour(self, client: Client) -> None:
        """That is the time to live of every type of workflow, unless its owner says something else."""
        for kind in WORKFLOWS:
            made = await client.create(kind)
            assert span_ms(made.create_time, made.expire_time) == 3_600_000

    async def test_the_owner_says_when(self, client: Client) -> None:
        """By a time to live or by a time; both at once contradict each other."""
        made = await client.create(ttl=Duration(seconds=60))
        assert span_ms(made.create_time, made.expire_time) == 60_000
        until = Timestamp(seconds=made.create_time.seconds + 1000)
        assert (await client.create(expire_time=until)).expire_time == until
        both = await refusal(client.create(expire_time=until, ttl=Duration(seconds=5)))
        assert (both.reason, both.fields) == ("INVALID_CONFIGURATION", ("session.ttl",))

    async def test_it_can_be_extended(self, client: Client) -> None:
        """By an update, also to an earlier time or for ever, and by a touch, only to a later one."""
        made = await client.create(ttl=Duration(seconds=60))
        touched = await client.touch(made.key, ttl=Duration(seconds=600))
        assert span_ms(touched.create_time, touched.expire_time) >= 600_000
        assert (await client.touch(made.key, ttl=Duration(seconds=5))).expire_time == touched.expire_time
        shorter = await client.update(made.key, ttl=Duration(seconds=30))
        assert span_ms(made.create_time, shorter.expire_time) < 60_000
        until = Timestamp(seconds=made.create_time.seconds + 5000)
        assert (await client.update(made.key, "expire_time", expire_time=until)).expire_time == until
        assert not (await client.update(made.key, "expire_time")).HasField("expire_time")

    async def test_every_access_is_activity(self, client: Client, msisdn: str) -> None:
        """Whatever names a session moves the time of its last use; only who peeks does not."""
        key, before = (made := await client.create("voice", msisdn=msisdn)).key, ms(made.last_activity_time)
        stub, number = client.stub, service.ActiveLookup(msisdn=msisdn, type="voice")
        traffic = service.RecordTrafficRequest(key=key, traffic=session.Traffic(bytes_sent=1))
        wish = service.AuthorizeExecutionRequest(key=key, operation=service.OPERATION_READ)
        peeked = await client.get(key, peek=True)
        assert (ms(peeked.last_activity_time), peeked.update_time) == (before, made.update_time)
        uses: list[Callable[[], Awaitable[object]]] = [
            *(partial(use, key) for use in (client.get, client.update, client.touch, client.pause, client.resume)),
            partial(client.associate, key, "other"),
            lambda: stub.GetSession(service.GetSessionRequest(active=number)),
            lambda: stub.RecordTraffic(traffic),
            lambda: stub.AuthorizeExecution(wish),
        ]
        for use in uses:
            while await now_ms(client) <= before:
                pass  # the clock stands still
            await use()
            used = await client.get(key, peek=True)
            assert ms(used.last_activity_time) > before
            before = ms(used.last_activity_time)
            await stub.GetSessionStatistics(service.GetSessionStatisticsRequest(key=key))
            await stub.ListSessions(service.ListSessionsRequest(filter=f'key = "{key}"'))
            assert ms((await client.get(key, peek=True)).last_activity_time) == before


async def now_ms(client: Client) -> int:
    """Return what time it is to the daemon: that of a session it makes."""
    made = await client.create()
    await client.delete(made.key, force=True)
    return ms(made.create_time)


async def until_gone(client: Client, key: str) -> Refusal:
    """Return how a session is not found, as soon as it is not."""
    async with asyncio.timeout(15):
        while True:
            try:
                await client.get(key, peek=True)
            except grpc.aio.AioRpcError as error:
                return refusal_of(error)


class TestW4:
    """An expired session is not found."""

    async def test_from_its_expire_time_on(self, client: Client) -> None:
        """Whoever asks for it is told that it has expired; to look at it is no use that saves it."""
        made = await client.create(ttl=Duration(nanos=200_000_000))
        gone = await until_gone(client, made.key)
        assert (gone.code, gone.reason) == (Code.NOT_FOUND, "SESSION_EXPIRED")
        assert await now_ms(client) >= ms(made.expire_time)

    async def test_its_number_is_free(self, client: Client, msisdn: str) -> None:
        """The number of an expired session can have another one at once."""
        first = await client.create(msisdn=msisdn, ttl=Duration(nanos=1_000_000))
        await until_gone(client, first.key)
        again = await client.made(said("ussd", msisdn=msisdn), reuse_active=True)
        assert again.created
        assert again.session.key != first.key

    async def test_without_auto_expire_its_record_stays(self, client: Client) -> None:
        """It is not found any more, and nobody ends it; it can be removed without force."""
        made = await client.create(ttl=Duration(nanos=1_000_000), settings=session.Settings(auto_expire=False))
        assert (await until_gone(client, made.key)).reason == "SESSION_EXPIRED"
        assert (await refusal(client.end(made.key))).reason == "SESSION_EXPIRED"
        await client.delete(made.key)
        assert (await client.missing(made.key)).reason == "SESSION_NOT_FOUND"


class TestW5:
    """An ended session refuses changes."""

    async def test_by_a_clear_error(self, client: Client) -> None:
        """It can be read and not changed; ending it again changes nothing and succeeds."""
        made = await client.create(details={"a": 1})
        ended = await client.end(made.key, message="first")
        for act in (client.update, client.touch, client.pause, client.resume, client.activate):
            refused = await refusal(act(made.key))
            assert (refused.code, refused.reason) == (Code.FAILED_PRECONDITION, "SESSION_ENDED")
        assert await client.end(made.key, message="second") == ended
        assert await client.get(made.key) == ended


class TestW7:
    """Concurrent updates: the loser is told, nothing is lost."""

    async def test_an_etag_is_for_one_version(self, client: Client) -> None:
        """A change decided on an older version is refused; mere use does not make a version older."""
        made = await client.create()
        read = await client.get(made.key)
        assert read.etag == made.etag
        changed = await client.update(made.key, identifier="one", etag=read.etag)
        for act in (
            client.update(made.key, identifier="two", etag=read.etag),
            client.end(made.key, etag=read.etag),
            client.delete(made.key, etag=read.etag),
            client.pause(made.key, etag=read.etag),
            client.associate(made.key, "other", etag=read.etag),
        ):
            refused = await refusal(act)
            assert (refused.code, refused.reason) == (Code.ABORTED, "ETAG_MISMATCH")
        assert await client.get(made.key, peek=True) == changed
        assert state_of(await client.end(made.key, etag=changed.etag)) == "CLOSED"

    async def test_no_update_is_lost(self, client: Client) -> None:
        """Many add to one session at once: each reads, decides, and tries again if somebody was faster."""
        key = (await client.create(details={"sum": 0})).key

        async def add() -> None:
            while True:
                read = await client.get(key)
                try:
                    await client.update(key, details={"sum": details_of(read)["sum"] + 1}, etag=read.etag)
                except grpc.aio.AioRpcError as error:
                    if refusal_of(error).reason != "ETAG_MISMATCH":
                        raise
                else:
                    return

        await asyncio.gather(*(add() for _ in range(12)))
        assert details_of(await client.get(key)) == {"sum": 12}

    async def test_without_an_etag_entries_do_not_get_in_each_others_way(self, client: Client) -> None:
        """Updates of different entries are all there in the end."""
        key = (await client.create()).key
        await asyncio.gather(*(client.update(key, details={f"entry {number}": number}) for number in range(20)))
        assert details_of(await client.get(key)) == {f"entry {number}": number for number in range(20)}

    async def test_an_end_by_itself_is_a_change(self, client: Client) -> None:
        """Who read a session before it was closed for want of use has an older version of it."""
        made = await client.create(idle_timeout=Duration(nanos=1_000_000))
        async with asyncio.timeout(15):
            while reason_of(ended := await client.get(made.key, peek=True)) != "IDLE":
                pass
        assert ended.etag != made.etag
        assert ended.update_time == ended.end_time
        refused = await refusal(client.delete(made.key, etag=made.etag))
        assert (refused.code, refused.reason) == (Code.ABORTED, "ETAG_MISMATCH")


class TestW9:
    """Creation and deletion are logged."""

    async def test_each_with_its_key(self, daemon: NativeDaemon, client: Client) -> None:
        """The log says which sessions were made, and which were removed."""
        made = await client.create()
        await client.delete(made.key, force=True)

        def told(event: str) -> list[str]:
            return [key for line in daemon.process.find(event) for key in line["sessions"] if key == made.key]

        for event in ("sessions_created", "sessions_deleted"):
            assert await daemon.changes.until(partial(told, event), f"{event} of {made.key}") == [made.key]


class TestData:
    """What owners keep with their sessions."""

    async def test_an_entry_is_set_or_removed_by_name(self, client: Client) -> None:
        """`details.<name>` is one entry: set if it is given, removed if it is not; null removes too."""
        key = (await client.create(details={"a": 1, "b": 2, "c d": 3})).key
        changed = await client.update(key, "details.a", "details.b", details={"b": {"x": None}, "ignored": 1})
        assert details_of(changed) == {"b": {"x": None}, "c d": 3}
        assert details_of(await client.update(key, "details.`c d`")) == {"b": {"x": None}}
        assert details_of(await client.update(key, details={"b": None, "n": 5})) == {"n": 5}

    async def test_a_star_is_everything(self, client: Client) -> None:
        """With `*` the session is as it is said to be; what is not said is empty."""
        key = (await client.create(details={"a": 1}, identifier="x", idle_timeout=Duration(seconds=5))).key
        changed = await client.update(key, "*", details={"b": 2}, settings=session.Settings(auto_expire=True))
        assert (details_of(changed), changed.identifier) == ({"b": 2}, "")
        assert not changed.HasField("idle_timeout")
        assert not changed.HasField("expire_time")

    @pytest.mark.parametrize(
        ("path", "reason"),
        [
            ("key", "FIELD_IMMUTABLE"), ("type", "FIELD_IMMUTABLE"), ("state", "FIELD_IMMUTABLE"),
            ("msisdn", "FIELD_IMMUTABLE"), ("traffic.bytes_sent", "FIELD_IMMUTABLE"), ("etag", "FIELD_IMMUTABLE"),
            ("associate_keys", "FIELD_IMMUTABLE"), ("nothing", "FIELD_MASK_INVALID"),
            ("detailsx", "FIELD_MASK_INVALID"),
        ],
    )  # fmt: skip
    async def test_what_cannot_be_changed(self, client: Client, path: str, reason: str) -> None:
        """A mask that names it is refused, by the path."""
        made = await client.create()
        refused = await refusal(client.update(made.key, path))
        assert (refused.code, refused.reason) == (Code.INVALID_ARGUMENT, reason)
        assert refused.fields == (f"session.{path}" if reason == "FIELD_IMMUTABLE" else "update_mask",)

    async def test_what_was_read_can_be_sent_back(self, client: Client, msisdn: str) -> None:
        """A whole session, as it was read, is no change; another value of what is fixed is refused."""
        made = await client.create(msisdn=msisdn, details={"a": 1}, associate_keys=["b"])
        request = service.UpdateSessionRequest(session=made)
        assert (await client.stub.UpdateSession(request)).session.etag == made.etag
        request.session.msisdn = "+15559999999"
        assert (await refusal(client.stub.UpdateSession(request))).fields == ("session.msisdn",)

    async def test_limits(self, client: Client) -> None:
        """What is too long or too large is refused by its field, and nothing of it is kept."""
        key = (await client.create(details={"a": 1})).key
        large = await refusal(client.update(key, details={"b": "x" * 65_536}))
        assert (large.code, large.reason) == (Code.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")
        assert large.fields == ("session.details",)
        assert details_of(await client.get(key)) == {"a": 1}
        for fields, field in (
            ({"identifier": "x" * 257}, "session.identifier"),
            ({"details": {"n" * 129: 1}}, "session.details." + "n" * 128),
        ):
            long = await refusal(client.update(key, **fields))
            assert (long.reason, long.fields) == ("FIELD_TOO_LONG", (field,))
        assert (await refusal(client.end(key, message="x" * 257))).reason == "FIELD_TOO_LONG"
        assert (await refusal(client.create(key="x" * 129))).reason == "FIELD_TOO_LONG"
        assert (await refusal(client.create(key="a b"))).reason == "FIELD_INVALID"

    async def test_a_mask_picks_fields(self, client: Client) -> None:
        """A read mask leaves the rest out; one that names nothing there is, is refused."""
        made = await client.create(details={"a": 1}, identifier="x")
        mask = FieldMask(paths=["identifier", "state"])
        assert await client.get(made.key, read_mask=mask) == session.Session(
            identifier="x", state=session.SESSION_STATE_ACTIVE
        )
        assert (await client.get(made.key, read_mask=FieldMask(paths=["*"]), peek=True)).key == made.key
        wrong = await refusal(client.get(made.key, read_mask=FieldMask(paths=["nothing"])))
        assert (wrong.reason, wrong.fields) == ("FIELD_MASK_INVALID", ("read_mask",))


class TestRequestIds:
    """A request that is sent again is not carried out again."""

    async def test_creation(self, client: Client) -> None:
        """The same request answers with the session it has made, without or with a key of its own."""
        for key in ("", f"own-{next(_numbers)}"):
            name = f"request-{next(_numbers)}"
            wanted = said("ussd", key=key, details={"a": 1})
            first = await client.made(wanted, request_id=name)
            again = await client.made(wanted, request_id=name)
            assert again == first
            other = await refusal(client.made(said("ussd", key=key), request_id=name))
            assert (other.code, other.reason) == (Code.INVALID_ARGUMENT, "REQUEST_ID_REUSED")
            assert other.fields == ("request_id",)

    async def test_a_key_that_is_taken(self, client: Client) -> None:
        """Without a request id, or with another, it is somebody else's."""
        key = f"own-{next(_numbers)}"
        await client.create(key=key)
        for request_id in ("", "another"):
            taken = await refusal(client.made(said("ussd", key=key), request_id=request_id))
            assert (taken.code, taken.reason) == (Code.ALREADY_EXISTS, "SESSION_EXISTS")

    async def test_a_creation_that_comes_again_later(self, client: Client, msisdn: str) -> None:
        """It is answered with the session it has made, whatever has become of that, and says that it made it."""
        name = f"request-{next(_numbers)}"
        wanted = said("ussd", msisdn=msisdn)
        first = await client.made(wanted, request_id=name, reuse_active=True)
        again = await client.made(wanted, request_id=name, reuse_active=True)
        assert (again.session.key, again.created) == (first.session.key, True)
        ended = await client.end(first.session.key)
        again = await client.made(wanted, request_id=name, reuse_active=True)
        assert (again.session, again.created) == (ended, True)

    async def test_a_creation_that_could_not_be_made_any_more(self, client: Client) -> None:
        """What was made is there, also where the same request would be refused by now."""
        name, parent = f"request-{next(_numbers)}", await client.create("execution")
        wanted = said("execution", parent_key=parent.key)
        first = await client.made(wanted, request_id=name)
        await client.end(parent.key)
        assert (await client.made(wanted, request_id=name)).session.key == first.session.key
        assert (await refusal(client.made(wanted, request_id=f"{name}-2"))).reason == "SESSION_NOT_ACTIVE"

    async def test_a_key_of_one_that_has_expired(self, client: Client) -> None:
        """It is taken as long as its record is kept, with a request id or without."""
        key = f"own-{next(_numbers)}"
        await client.create(key=key, ttl=Duration(nanos=1_000_000))
        await until_gone(client, key)
        for request_id in ("", "another"):
            taken = await refusal(client.made(said("ussd", key=key), request_id=request_id))
            assert (taken.code, taken.reason) == (Code.ALREADY_EXISTS, "SESSION_EXISTS")

    async def test_changes(self, client: Client) -> None:
        """What was done once is answered with the session as it is, whatever came after it."""
        key = (await client.create()).key
        await client.update(key, identifier="one", request_id="u")
        two = await client.update(key, identifier="two")
        assert (await client.update(key, identifier="one", request_id="u")).identifier == two.identifier
        await client.pause(key, request_id="p")
        assert state_of(await client.pause(key, request_id="p")) == "PAUSED"
        assert (await refusal(client.resume(key, request_id="p"))).reason == "REQUEST_ID_REUSED"
        await client.end(key, message="bye", request_id="e")
        assert (await client.end(key, message="bye", request_id="e")).end_message == "bye"
        await client.delete(key, request_id="d")
        await client.delete(key, request_id="d")
        assert (await refusal(client.delete(key, request_id="another"))).reason == "SESSION_NOT_FOUND"
        await client.delete(key, allow_missing=True)
        assert (await refusal(client.update("key", request_id="x" * 65))).reason == "FIELD_TOO_LONG"


class TestAssociates:
    """Sessions that are tied to others."""

    async def test_order_and_limit(self, client: Client) -> None:
        """They keep the order in which they came, twice is once, and there is a limit by profile."""
        key = (await client.create("execution", associate_keys=["z", "a"])).key
        for other in ("b", "z", "c"):
            tied = await client.associate(key, other)
        assert tied.associate_keys == ["z", "a", "b", "c"]
        for number in range(4):
            await client.associate(key, f"more-{number}")
        full = await refusal(client.associate(key, "one too many"))
        assert full.code == Code.INVALID_ARGUMENT  # a key has no blanks
        full = await refusal(client.associate(key, "one-too-many"))
        assert (full.code, full.reason) == (Code.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")
        itself = await refusal(client.associate(key, key))
        assert (itself.reason, itself.fields) == ("ASSOCIATE_IS_SELF", ("associate_key",))
        itself = await refusal(client.create(key="self", associate_keys=["a", "self"]))
        assert (itself.reason, itself.fields) == ("ASSOCIATE_IS_SELF", ("session.associate_keys",))
        assert list((await client.create("execution", associate_keys=["a"] * 9)).associate_keys) == ["a"]

    async def test_an_end_goes_on_to_associates(self, client: Client) -> None:
        """If that is wanted, children and theirs end too, in order; a circle and gaps do no harm."""
        grandchild = await client.create()
        child = await client.create(associate_keys=["nobody", grandchild.key])
        over = await client.create()
        await client.end(over.key)
        parent = await client.create(associate_keys=[over.key, child.key])
        await client.associate(grandchild.key, parent.key)
        alone = await client.create(associate_keys=[child.key])
        await client.end(alone.key)
        assert state_of(await client.get(child.key)) == "ACTIVE"
        request = service.EndSessionRequest(key=parent.key, end_associates=True)
        answer = await client.stub.EndSession(request)
        assert answer.ended_associate_keys == [child.key, grandchild.key]
        assert state_of(await client.get(grandchild.key)) == "CLOSED"
