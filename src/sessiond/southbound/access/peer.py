"""The MME's bearers (`magma.lte.SpgwService`)."""

import structlog

from sessiond.core.effects import CreateBearer, DeleteBearer
from sessiond.core.rules import Catalogue
from sessiond.core.session import Session
from sessiond.pb.magma.lte.spgw_pb2_grpc import SpgwServiceStub
from sessiond.southbound.access import messages
from sessiond.southbound.channel import Channel

_log = structlog.get_logger(__name__)


class Spgw:
    """Implements `app.ports.peers.AccessPeer`; that a bearer stands is heard from the MME later."""

    def __init__(self, address: str, deadline_ms: int) -> None:
        self.channel = Channel(address)
        self._stub = SpgwServiceStub(self.channel.connection)
        self._deadline_s = deadline_ms / 1000

    async def create_bearer(self, session: Session, effect: CreateBearer, catalogue: Catalogue) -> None:
        """Ask for dedicated bearers; nothing is sent if nobody can define the rules any more."""
        request = messages.create_bearer_request(session, effect, catalogue)
        if request is None:
            _log.warning("rules_undefined", session=session.key, rules=effect.rules)
            return
        await self.channel.call(self._stub.CreateBearer, request, self._deadline_s)

    async def delete_bearer(self, session: Session, effect: DeleteBearer) -> None:
        """Ask to take bearers down."""
        request = messages.delete_bearer_request(session, effect)
        await self.channel.call(self._stub.DeleteBearer, request, self._deadline_s)

    async def close(self) -> None:
        """Close the connection."""
        await self.channel.close()
