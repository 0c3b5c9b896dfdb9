"""Native sessions over the wire, requirement by requirement: W1 to W9 and L1 to L3 (W8 has a module of its own)."""

from collections.abc import AsyncIterator
from itertools import count

import grpc
import pytest
import pytest_asyncio

from sessiond.pb.sessiond.v1 import session_pb2 as session
from sessiond.pb.sessiond.v1 import session_service_pb2 as service
from tests.blackbox.harness import refusal
from tests.blackbox.native import Client, NativeDaemon, details_of, reason_of, said, sessions, state_of

pytestmark = [pytest.mark.blackbox, pytest.mark.asyncio(loop_scope="module")]

STORES = ("memory", "valkey")
WORKFLOWS = ("ussd", "voice", "sms", "payment")
Code = grpc.StatusCode

_numbers = count(1)


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
