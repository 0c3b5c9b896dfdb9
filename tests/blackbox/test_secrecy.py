"""What is sensitive, over the wire and in the store: W8. That no log has it is asked of every daemon (canaries)."""

import base64
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.field_mask_pb2 import FieldMask

from sessiond.pb.sessiond.v1 import session_service_pb2 as service
from sessiond.pb.sessiond.v1.admin_service_pb2 import GetSessionPolicyRequest
from sessiond.pb.sessiond.v1.admin_service_pb2_grpc import AdminServiceStub
from tests.blackbox.canaries import canary, note
from tests.blackbox.harness import refusal
from tests.blackbox.native import Client, NativeDaemon, details_of, sessions
from tests.blackbox.watching import watching
from tests.store.servers import Server, binary_of

pytestmark = [pytest.mark.blackbox, pytest.mark.asyncio(loop_scope="module")]

STORES = ("memory", "valkey")
OLD, NEW = (
    f"{name}:{base64.b64encode(note(octet * 32)).decode()}" for name, octet in (("old", b"\x0e"), ("new", b"\x0f"))
)
Code = grpc.StatusCode


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=STORES)
async def daemon(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[NativeDaemon]:
    """Give a daemon that all tests share, with a key where its store needs one."""
    folder = tmp_path_factory.mktemp("secrecy")
    config: dict[str, object] = {"store": {"url": "memory:"}}
    if request.param == "valkey":
        (folder / "keys").write_text(OLD)
        config |= {"store": {"url": request.getfixturevalue("one_valkey").url}, "encryption": {"keys_file": "keys"}}
    async with sessions(folder, **config) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def client(daemon: NativeDaemon) -> Client:
    """Give a client."""
    return daemon.client()


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Server]:
    """Give a Valkey of its own, as a daemon takes over from others on the same one."""
    server = Server(binary_of("valkey"), tmp_path / "valkey")
    yield server.start()
    server.stop()


def everything(server: Server) -> str:
    """Return all that is kept in a server, as text."""
    client: Any = server.client()
    readers: dict[str, Callable[[str], Any]] = {
        "hash": client.hgetall,
        "string": client.get,
        "zset": lambda key: client.zrange(key, 0, -1),
        "set": client.smembers,
        "stream": client.xrange,
    }
    return "\n".join(f"{key} {readers[client.type(key)](key)}" for key in client.scan_iter())


class TestW8:
    """Values marked sensitive are encrypted at rest and masked in logs."""

    async def test_only_its_own_callers_read_them(self, client: Client) -> None:
        """GetSession shows what was said; every other answer, and the operator's, shows a mask."""
        secret = {"pin": canary("pin"), "card": {"number": canary("card"), "month": 5.0}}
        made = await client.create(
            "payment", details={**secret, "step": "2"}, sensitive_details=["pin", "card", "none"]
        )
        masked = {"pin": "***", "card": "***", "step": "2"}
        assert details_of(made) == masked
        assert list(made.sensitive_details) == ["pin", "card", "none"]
        assert details_of(await client.get(made.key)) == {**secret, "step": "2"}
        assert details_of(await client.touch(made.key)) == masked
        admin = AdminServiceStub(client.channel)
        policy = await admin.GetSessionPolicy(GetSessionPolicyRequest(key=made.key))
        assert details_of(policy.session) == masked
        assert details_of(await client.end(made.key)) == masked
        assert details_of(await client.get(made.key)) == {**secret, "step": "2"}

    async def test_changes_keep_them_sealed(self, client: Client) -> None:
        """A new value of a sensitive entry is sensitive; entries become so, and stop being so, by their names."""
        first, second = canary("first"), canary("second")
        key = (await client.create("ussd", details={"pin": first, "step": "1"}, sensitive_details=["pin"])).key
        assert details_of(await client.update(key, details={"pin": second})) == {"pin": "***", "step": "1"}
        assert details_of(await client.get(key)) == {"pin": second, "step": "1"}
        marked = await client.update(key, sensitive_details=["pin", "step"])
        assert details_of(marked) == {"pin": "***", "step": "***"}
        assert details_of(await client.get(key)) == {"pin": second, "step": "1"}
        freed = await client.update(key, "sensitive_details", sensitive_details=["pin"])
        assert details_of(freed) == {"pin": "***", "step": "1"}
        assert "pin" not in details_of(await client.update(key, "details.pin"))

    async def test_that_they_changed_is_told(self, client: Client, daemon: NativeDaemon) -> None:
        """An event says that details have changed, though it shows the same mask before and after."""
        async with watching(daemon.process.address) as watcher:
            key = (await client.create("ussd", details={"pin": canary("a")}, sensitive_details=["pin"])).key
            await client.update(key, details={"pin": canary("b")})
            events = await watcher.events(2)
        assert list(events[1].changed_fields.paths) == ["details"]
        assert details_of(events[1].session) == {"pin": "***"}

    @pytest.mark.parametrize("names", [[""], ["x" * 129], [f"name-{number}" for number in range(257)]])
    async def test_there_is_an_end_to_what_is_named(self, client: Client, names: list[str]) -> None:
        """A name is one that an entry can have, and there are not too many."""
        key = (await client.create("ussd")).key
        for call in (client.create("ussd", sensitive_details=names), client.update(key, sensitive_details=names)):
            refused = await refusal(call)
            assert (refused.code, refused.fields) == (Code.INVALID_ARGUMENT, ("session.sensitive_details",))

    async def test_what_is_replaced_is_gone(self, client: Client) -> None:
        """Where all fields are replaced, an entry that is not named goes, also if it is or was sensitive."""
        key = (await client.create("ussd", details={"pin": canary("old"), "b": "1"}, sensitive_details=["pin"])).key
        assert details_of(await client.update(key, "*", details={"b": "2"})) == {"b": "2"}
        assert details_of(await client.update(key, "*", details={"c": "3"}, sensitive_details=["b"])) == {"c": "3"}

    async def test_a_mask_is_no_value(self, client: Client) -> None:
        """Who sends back what was shown of a sensitive entry does not lose it."""
        pin = canary("pin")
        made = await client.create("ussd", details={"pin": pin}, sensitive_details=["pin"])
        refused = await refusal(client.update(made.key, details={"pin": "***"}))
        assert (refused.code, refused.reason) == (Code.INVALID_ARGUMENT, "INVALID_CONFIGURATION")
        assert refused.fields == ("session.details.pin",)
        assert details_of(await client.get(made.key)) == {"pin": pin}

    async def test_a_request_that_is_repeated_is_answered_alike(self, client: Client) -> None:
        """Although no two seals are equal, the same request changes nothing twice."""
        key = (await client.create("ussd", sensitive_details=["pin"])).key
        answers = [await client.update(key, details={"pin": canary("x")[:-4]}, request_id="r") for _ in range(2)]
        assert answers[0].etag == answers[1].etag

    async def test_errors_do_not_tell_them(self, client: Client) -> None:
        """What is refused is not quoted; should it be, the log would have it."""
        too_large = canary("large") * 10_000
        refused = await refusal(client.create("ussd", details={"pin": too_large}, sensitive_details=["pin"]))
        assert (refused.code, refused.reason) == (Code.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED")
        assert "CANARY" not in refused.text


@pytest.mark.parametrize("secret", [canary("said"), note(b"\x0d" * 32).hex()], ids=["text", "octets"])
async def test_w8_a_log_that_shows_a_secret_is_found_out(tmp_path: Path, secret: str) -> None:
    """The search through what every daemon says is no formality: one that does say it fails its test."""
    daemon = NativeDaemon(tmp_path, {secret: "a key that there is not, which is said to whoever starts it"})
    await daemon.process.begin()
    assert await daemon.process.ended() == 2
    with pytest.raises(AssertionError, match="a secret is in the log"):
        await daemon.close()


async def test_w8_nothing_in_the_store_is_clear(tmp_path: Path, valkey: Server) -> None:
    """No key, field or value in Redis has it; after a restart it is read again."""
    (tmp_path / "keys").write_text(OLD)
    config = {"store": {"url": valkey.url}, "encryption": {"keys_file": "keys"}}
    secret = canary("stored")
    async with sessions(tmp_path, **config) as daemon:
        client = daemon.client()
        key = (await client.create("ussd", details={"pin": secret, "seen": "yes"}, sensitive_details=["pin"])).key
        await client.update(key, details={"pin": secret + "-2"})
        stored = everything(valkey)
        assert "CANARY" not in stored
        assert "sealed:old:" in stored
        assert '"yes"' in stored
        await daemon.process.stop()
        await daemon.process.start()
        assert details_of(await daemon.client().get(key))["pin"] == secret + "-2"


async def test_w8_keys_are_changed_while_running(tmp_path: Path, valkey: Server) -> None:
    """A new first key seals what comes, the old one opens what was; without the old one its values cannot be read."""
    keys = tmp_path / "keys"
    keys.write_text(OLD)
    config = {"store": {"url": valkey.url}, "encryption": {"keys_file": "keys"}}
    async with sessions(tmp_path, **config) as daemon:
        client = daemon.client()
        old, later = canary("old"), canary("new")
        first = (await client.create("ussd", details={"pin": old}, sensitive_details=["pin"])).key
        keys.write_text(f"{NEW}\n{OLD}\n")
        daemon.reload()
        await daemon.process.logged("reloaded")
        second = (await client.create("ussd", details={"pin": later}, sensitive_details=["pin"])).key
        assert [details_of(await client.get(key))["pin"] for key in (first, second)] == [old, later]
        keys.write_text(NEW)
        await daemon.process.stop()
        await daemon.process.start()
        client = daemon.client()
        assert details_of(await client.get(second))["pin"] == later
        refused = await refusal(client.get(first))
        assert (refused.code, refused.reason) == (Code.FAILED_PRECONDITION, "SEALED_VALUE_UNREADABLE")
        assert details_of(await client.touch(first)) == {"pin": "***"}
        mask = FieldMask(paths=["key", "state"])
        assert (await client.get(first, read_mask=mask)).key == first


async def test_w8_without_a_key_nothing_sensitive_is_kept(tmp_path: Path, valkey: Server) -> None:
    """A store that outlives the daemon takes no secret in clear."""
    async with sessions(tmp_path, store={"url": valkey.url}) as daemon:
        client = daemon.client()
        refused = await refusal(client.create("ussd", details={"pin": canary("x")}, sensitive_details=["pin"]))
        assert (refused.code, refused.reason) == (Code.FAILED_PRECONDITION, "ENCRYPTION_NOT_CONFIGURED")
        rotated = client.stub.RotateSessionKey(service.RotateSessionKeyRequest(key=(await client.create("ussd")).key))
        assert (await refusal(rotated)).reason == "ENCRYPTION_NOT_CONFIGURED"
