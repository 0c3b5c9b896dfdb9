"""What the operator is told of store and peers."""

from contextlib import AsyncExitStack, suppress

import grpc
import pytest

from sessiond.core.effects import LogEvent
from sessiond.core.errors import PeerFailed, Unavailable
from sessiond.daemon.config import Config, Peers, Store
from sessiond.daemon.measured import MeasuredStore
from sessiond.daemon.peers import conditions, connect
from sessiond.daemon.status import store_status, without_password
from sessiond.northbound.operations import PeerState, PeerStatus, StoreStatus
from tests.app.stores import TroubledStore
from tests.southbound.fakes import FakePeer, reserved_address, served

NOW_MS = 1_700_000_000_000


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("memory:", "memory:"),
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("redis://user:secret@h:6379/0", "redis://user@h:6379/0"),
        ("redis://:secret@h:6379/0", "redis://h:6379/0"),
        ("rediss://h:6379/0?password=secret&ssl_cert_reqs=none", "rediss://h:6379/0?ssl_cert_reqs=none"),
        ("redis+cluster://u:s@h:1", "redis+cluster://u@h:1"),
        ("unix:///run/redis.sock?db=1&password=secret", "unix:///run/redis.sock?db=1"),
        ("unix://user:secret@/run/redis.sock", "unix://user@/run/redis.sock"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    """Whoever may see the status may not see the password, wherever in the URL it is."""
    assert without_password(url) == shown


async def test_store_is_connected_as_long_as_writes_go_through() -> None:
    """A write that fails is told, and forgotten with the next one that does not."""
    troubled = TroubledStore()
    store, config = MeasuredStore(troubled, lambda _: None), Store(url="redis://:x@h:1/0", exclusive=False)
    well = StoreStatus(kind="redis", url="redis://h:1/0", survives=("restart of the daemon",), exclusive=False)
    assert store_status(config, store) == well
    troubled.fail("write")
    with pytest.raises(Unavailable) as caught:
        await store.write([])
    ill = store_status(config, store)
    assert (ill.connected, ill.last_error) == (False, caught.value.text)
    await store.write([])
    assert store_status(config, store) == well


def test_the_epoch_is_that_of_the_store() -> None:
    """A store that is fenced says with which epoch it writes."""

    class Fenced(TroubledStore):
        epoch = 7

    assert store_status(Store(url="redis://h:1/0"), MeasuredStore(Fenced(), lambda _: None)).epoch == 7


def test_memory_survives_nothing() -> None:
    """What a memory store can promise."""
    status = store_status(Store(exclusive=False), MeasuredStore(TroubledStore(), lambda _: None))
    assert status == StoreStatus(kind="memory", url="memory:", survives=(), exclusive=True)
    cluster = store_status(Store(url="redis+cluster://h:1"), MeasuredStore(TroubledStore(), lambda _: None))
    assert cluster.kind == "redis+cluster"


async def states_of(config: Config, stack: AsyncExitStack) -> dict[str, PeerStatus]:
    """Connect peers, tell eventd something, and return how each peer is."""
    peers = connect(config, stack)
    with suppress(PeerFailed):
        await peers.events.log(LogEvent("type", {}))
    return {peer.name: peer for peer in conditions(config, peers, {"eventd": 3}, NOW_MS)}


async def test_every_peer_is_told_of() -> None:
    """Those that are configured and were not needed are idle, the others absent."""
    async with AsyncExitStack() as stack:
        addresses = Peers(
            session_proxy="127.0.0.1:1", pipelined="127.0.0.1:2", spgw="127.0.0.1:3", aaa="127.0.0.1:4",
            directoryd="127.0.0.1:5", mobilityd="127.0.0.1:6",
        )  # fmt: skip
        found = await states_of(Config(peers=addresses), stack)
    assert {name: (peer.address, peer.state) for name, peer in found.items()} == {
        "session_proxy": ("127.0.0.1:1", PeerState.IDLE),
        "pipelined": ("127.0.0.1:2", PeerState.IDLE),
        "spgw": ("127.0.0.1:3", PeerState.IDLE),
        "aaa": ("127.0.0.1:4", PeerState.IDLE),
        "directoryd": ("127.0.0.1:5", PeerState.IDLE),
        "eventd": ("", PeerState.ABSENT),
        "mobilityd": ("127.0.0.1:6", PeerState.IDLE),
        "mme": ("", PeerState.ABSENT),
    }
    assert found["eventd"].pending == 3


async def test_a_peer_that_answers_is_connected() -> None:
    """Its last answer was just now."""
    async with served(FakePeer()) as (address, _), AsyncExitStack() as stack:
        eventd = (await states_of(Config(peers=Peers(eventd=address)), stack))["eventd"]
    assert (eventd.state, eventd.last_error) == (PeerState.CONNECTED, "")
    assert NOW_MS - 5000 < eventd.last_answer_ms <= NOW_MS


async def test_a_peer_that_refuses_is_connected() -> None:
    """A refusal is an answer, and is shown."""

    async def refuse(_: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you")
        return b""

    async with served(FakePeer(refuse)) as (address, _), AsyncExitStack() as stack:
        eventd = (await states_of(Config(peers=Peers(eventd=address)), stack))["eventd"]
    assert (eventd.state, eventd.last_error) == (PeerState.CONNECTED, "PERMISSION_DENIED: not you")
    assert eventd.last_answer_ms > 0


async def test_a_peer_that_is_not_there_is_failing() -> None:
    """It has never answered, and it is shown why."""
    with reserved_address() as address:
        async with AsyncExitStack() as stack:
            eventd = (await states_of(Config(peers=Peers(eventd=address)), stack))["eventd"]
    assert (eventd.state, eventd.last_answer_ms) == (PeerState.FAILING, 0)
    assert eventd.last_error.startswith("UNAVAILABLE: ")
