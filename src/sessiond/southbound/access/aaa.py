"""The AAA server of a carrier wifi gateway (`aaa.protos.accounting`)."""

from collections.abc import Sequence

from sessiond.core.lifecycle import State
from sessiond.core.session import Session
from sessiond.pb.aaa.protos import accounting_pb2, context_pb2
from sessiond.pb.aaa.protos.accounting_pb2_grpc import accountingStub
from sessiond.southbound.channel import Channel
from sessiond.translate.context import context_of


class Aaa:
    """Implements `app.ports.peers.WifiPeer`."""

    def __init__(self, address: str, deadline_ms: int) -> None:
        self.channel = Channel(address)
        self._stub = accountingStub(self.channel.connection)
        self._deadline_s = deadline_ms / 1000

    async def terminate(self, session: Session) -> None:
        """Say that a session is over; the AAA server takes the IMSI as it was given to us."""
        context = context_of(session)
        request = accounting_pb2.terminate_session_request(
            radius_session_id=context.wlan.radius_session_id if context.wlan else "", imsi=context.subscriber
        )
        await self.channel.call(self._stub.terminate_session, request, self._deadline_s)

    async def add_sessions(self, sessions: Sequence[Session]) -> None:
        """Tell which carrier wifi sessions still stand; nothing is sent if none does.

        One that is being created is not known there yet, and one that is being released is better forgotten.
        """
        standing = [_standing(session) for session in sessions if _stands(session)]
        if standing:
            request = accounting_pb2.add_sessions_request(sessions=standing)
            await self.channel.call(self._stub.add_sessions, request, self._deadline_s)

    async def close(self) -> None:
        """Close the connection."""
        await self.channel.close()


def _stands(session: Session) -> bool:
    over_wifi = session.context is not None and session.context.wlan is not None
    return over_wifi and session.head.state is State.ACTIVE


def _standing(session: Session) -> context_pb2.context:
    context = context_of(session)
    return context_pb2.context(
        imsi=context.subscriber,
        session_id=context.wlan.radius_session_id if context.wlan else "",
        acct_session_id=session.key,
        mac_addr=context.wlan.mac_addr if context.wlan else "",
        msisdn=context.msisdn,
        apn=context.apn,
    )
