"""Which peers a daemon talks to: the real one where an address is configured, a stand-in where it is not."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from typing import Final, Protocol, TypeVar

from grpc import ChannelConnectivity

from sessiond.app.ports.peers import Peers
from sessiond.daemon.clock import utc_offset_minutes
from sessiond.daemon.config import Config
from sessiond.northbound.operations import PeerState, PeerStatus
from sessiond.southbound import absent
from sessiond.southbound.access.aaa import Aaa
from sessiond.southbound.access.mme import Mme
from sessiond.southbound.access.mobilityd import Mobilityd
from sessiond.southbound.access.peer import Spgw
from sessiond.southbound.channel import Channel
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
        attachments=kept(asked) if (asked := _attachments(config)) else None,
        without=frozenset(name for name in ("directoryd", "eventd") if getattr(at, name) is None),
    )


def _attachments(config: Config) -> Mme | Mobilityd | None:
    """Return who is asked what is attached: the MME knows sessions, mobilityd only addresses, which outlive them."""
    if config.peers.mme:
        return Mme(config.peers.mme, DEADLINE_MS)
    return Mobilityd(config.peers.mobilityd, DEADLINE_MS) if config.peers.mobilityd else None


def _policy(config: Config, address: str) -> PolicyController:
    return PolicyController(
        address,
        DEADLINE_MS,
        requested_units=config.default_requested_units,
        timezone_offset_min=utc_offset_minutes() if config.send_access_timezone else None,
    )


def conditions(config: Config, peers: Peers, pending: Mapping[str, int], now_ms: int) -> Iterator[PeerStatus]:
    """Yield how each peer is, also those that are not configured; `pending` is what they must still be told."""
    in_use = {
        "session_proxy": peers.policy,
        "pipelined": peers.data_plane,
        "spgw": peers.access,
        "aaa": peers.wifi,
        "directoryd": peers.directory,
        "eventd": peers.events,
        **({peers.attachments.name: peers.attachments} if peers.attachments is not None else {}),
    }
    for name in config.peers.__struct_fields__:
        address: str | None = getattr(config.peers, name)
        channel = getattr(in_use.get(name), "channel", None)
        owed = pending.get(name, 0)
        if isinstance(channel, Channel):
            yield _condition(name, address or "", channel, owed, now_ms)
        else:
            yield PeerStatus(
                name=name, address=address or "", state=PeerState.IDLE if address else PeerState.ABSENT, pending=owed
            )


def _condition(name: str, address: str, channel: Channel, owed: int, now_ms: int) -> PeerStatus:
    answered_s = channel.last_answer_s
    ago_ms = 0 if answered_s is None else int((asyncio.get_running_loop().time() - answered_s) * 1000)
    return PeerStatus(
        name=name,
        address=address,
        state=PeerState.FAILING if channel.silent else _STATES[channel.state],
        last_answer_ms=0 if answered_s is None else now_ms - ago_ms,
        last_error=channel.last_error,
        pending=owed,
    )


_STATES: Final = {
    ChannelConnectivity.IDLE: PeerState.IDLE,
    ChannelConnectivity.CONNECTING: PeerState.CONNECTING,
    ChannelConnectivity.READY: PeerState.CONNECTED,
    ChannelConnectivity.TRANSIENT_FAILURE: PeerState.FAILING,
    ChannelConnectivity.SHUTDOWN: PeerState.FAILING,
}
