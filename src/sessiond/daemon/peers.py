"""Which peers a daemon talks to: the real one where an address is configured, a stand-in where it is not."""

from contextlib import AsyncExitStack
from typing import Final, Protocol, TypeVar

from sessiond.app.ports.peers import Peers
from sessiond.daemon.clock import utc_offset_minutes
from sessiond.daemon.config import Config
from sessiond.southbound import absent
from sessiond.southbound.access.aaa import Aaa
from sessiond.southbound.access.peer import Spgw
from sessiond.southbound.directory.peer import Directoryd
from sessiond.southbound.events.peer import Eventd
from sessiond.southbound.pipelined.peer import Pipelined
from sessiond.southbound.policy.peer import PolicyController

DEADLINE_MS: Final = 6000
"""How long any peer may take to answer; the MME waits 10 s for us."""


class _Peer(Protocol):
    async def close(self) -> None: ...


P = TypeVar("P", bound=_Peer)


def connect(config: Config, stack: AsyncExitStack) -> Peers:
    """Return all peers; the stack closes their connections."""
    at = config.peers

    def kept(peer: P) -> P:
        stack.push_async_callback(peer.close)
        return peer

    return Peers(
        policy=kept(_policy(config, at.session_proxy)) if at.session_proxy else absent.NoPolicyController(),
        data_plane=kept(Pipelined(at.pipelined, DEADLINE_MS)) if at.pipelined else absent.NoDataPlane(),
        access=kept(Spgw(at.spgw, DEADLINE_MS)) if at.spgw else absent.NoAccess(),
        wifi=kept(Aaa(at.aaa, DEADLINE_MS)) if at.aaa else absent.NoWifi(),
        directory=kept(Directoryd(at.directoryd, DEADLINE_MS)) if at.directoryd else absent.NoDirectory(),
        events=kept(Eventd(at.eventd, DEADLINE_MS)) if at.eventd else absent.NoEvents(),
    )


def _policy(config: Config, address: str) -> PolicyController:
    return PolicyController(
        address,
        DEADLINE_MS,
        requested_units=config.default_requested_units,
        timezone_offset_min=utc_offset_minutes() if config.send_access_timezone else None,
    )
