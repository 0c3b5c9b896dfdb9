"""The ways to a server: users and passwords, sockets, TLS, and URLs that are wrong."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessiond.app.ports.store import Create, Delete, Deleted, Store, Stored, Update
from sessiond.core.errors import Unavailable
from sessiond.store import redis_link, redis_scripts
from sessiond.store.redis_link import connect
from sessiond.testing.store_contract import session, touch
from tests.certificate import make_certificate
from tests.store.conftest import Open
from tests.store.proxy import FaultProxy
from tests.store.servers import ClusterOfThree, Server, binary_of, closing_down
from tests.store.stores import built

RIGHTS = "~session* +@read +@write +evalsha +script|load"
"""What `config/sessiond.yml` tells an operator to allow."""


@pytest.fixture(params=["valkey", "redis"])
def guarded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """Give a server that wants to know who comes, with a unix socket too."""
    socket = str(tmp_path / "socket")
    user = ["--user", "sessiond", "on", ">pass@word", *RIGHTS.split(), "--unixsocket", socket]
    server = Server(binary_of(request.param), tmp_path, *user, "--requirepass", "secret")
    with closing_down(server):
        yield server.start()


async def test_a_user_with_the_rights_that_are_needed(guarded: Server, open_store: Open) -> None:
    """A user that may do what the store does, and no more, is enough for all of it."""
    store = await open_store(f"redis://sessiond:pass%40word@127.0.0.1:{guarded.port}", watch_s=0.01)
    await _use(store)
    shared = await open_store(f"redis://sessiond:pass%40word@127.0.0.1:{guarded.port}/0", exclusive=False)
    await _use(shared)
    await shared._keep()


async def test_a_password_and_a_database(guarded: Server, open_store: Open) -> None:
    """The default user with a password, in a database of its own."""
    store = await open_store(f"redis://:secret@127.0.0.1:{guarded.port}/3")
    await _use(store)
    with guarded.client(password="secret") as client:  # noqa: S106
        assert client.dbsize() == 0


@pytest.mark.usefixtures("guarded")
async def test_a_unix_socket(tmp_path: Path, open_store: Open) -> None:
    """A server on the same machine is reached without TCP."""
    await _use(await open_store(f"unix://:secret@{tmp_path}/socket"))


@pytest.mark.parametrize("who", ["", "sessiond:wrong@", ":wrong@"])
async def test_whom_the_server_does_not_want_is_told_at_once(guarded: Server, who: str) -> None:
    """Wrong credentials do not get better by waiting: opening the store fails, and says why."""
    store = built(f"redis://{who}127.0.0.1:{guarded.port}")
    with pytest.raises(Unavailable) as error:
        await store.open()
    assert error.value.reason == "STORE_REFUSED"
    assert "wrong" not in error.value.text
    await store.close()


@pytest.mark.parametrize("missing", ["-evalsha", "-script", "-hmget", "resetkeys"])
async def test_rights_that_are_missing(guarded: Server, missing: str) -> None:
    """A user that may not do what the scripts do is told so, at once."""
    with guarded.client(password="secret") as client:  # noqa: S106
        client.execute_command("ACL", "SETUSER", "sessiond", missing)
    store = built(f"redis://sessiond:pass%40word@127.0.0.1:{guarded.port}")
    with pytest.raises(Unavailable) as error:
        await store.open()
    assert error.value.reason == "STORE_REFUSED"
    await store.close()


async def test_tls(valkey: Server, tmp_path: Path, open_store: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificate of the server is looked at, against the authority that the URL names."""
    valkey.flush()
    certificate = make_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    async with FaultProxy(valkey.port, context) as proxy:
        url = f"rediss://127.0.0.1:{proxy.port}/0"
        await _use(await open_store(f"{url}?ssl_ca_certs={certificate}"))
        stranger = built(url, exclusive=False)
        monkeypatch.setattr(redis_link, "OPERATION_S", 0.3)
        with pytest.raises(Unavailable, match=r"(?i)certificate"):
            await stranger.get("sms-1")
        await stranger.close()


async def test_a_cluster_that_is_named_as_a_single_node(cluster: ClusterOfThree) -> None:
    """The URL of a cluster begins with redis+cluster; one that does not is refused with that hint."""
    store = built(f"redis://127.0.0.1:{cluster.nodes[0].port}")
    with pytest.raises(Unavailable, match=r"redis\+cluster"):
        await store.open()
    await store.close()


async def test_a_user_of_a_cluster(cluster: ClusterOfThree, open_store: Open) -> None:
    """On a cluster, a user needs one more right: to ask where the slots are."""
    cluster.flush()
    for node in cluster.nodes:
        with node.client() as client:
            for user, more in (("guest", []), ("sessiond", ["+cluster|slots"])):
                client.execute_command("ACL", "SETUSER", user, "reset", "on", ">word", *RIGHTS.split(), *more)
    await _use(await open_store(cluster.url.replace("://", "://sessiond:word@")))
    for who in ("guest:word", "sessiond:wrong"):
        store = built(cluster.url.replace("://", f"://{who}@"))
        with pytest.raises(Unavailable) as error:
            await store.open()
        assert error.value.reason == "STORE_REFUSED"
        await store.close()


async def test_a_single_node_that_is_named_as_a_cluster(valkey: Server) -> None:
    """A server that is no cluster is not waited for to become one."""
    store = built(f"redis+cluster://127.0.0.1:{valkey.port}")
    with pytest.raises(Unavailable, match="no cluster") as error:
        await store.open()
    assert error.value.reason == "STORE_REFUSED"
    await store.close()


@pytest.mark.parametrize("url", ["http://h:1", "redis://h:1/0?colour=blue", "redis://h:1/0?db=x"])
async def test_urls_that_make_no_sense(url: str) -> None:
    """What no server can be reached with is refused before anything is tried."""
    with pytest.raises(ValueError, match=r"\w+"):
        connect(url, redis_scripts.ALL)


async def _use(store: Store) -> None:
    """Do everything that a store is for."""
    assert await store.write([Create(session())]) == [Stored(session(), 1)]
    assert await store.write([Update(session().key, 1, touch())]) != []
    assert len(await store.find(session().scope)) == len([one async for one in store.load()]) == 1
    assert await store.write([Delete(session().key, 2)]) == [Deleted()]
