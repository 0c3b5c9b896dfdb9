"""Stand-ins for peers that are configured away: without them the daemon runs, and this is what it hears instead."""

from collections.abc import Mapping, Sequence

import structlog

from sessiond.app.ports.peers import SetupResult, UnknownFlows, UpdateRequest, UsageReport
from sessiond.core.decide.answer import UpdateAnswer
from sessiond.core.effects import (
    ActivateFlows,
    CreateBearer,
    DeactivateFlows,
    DeleteBearer,
    ExportFlows,
    LogEvent,
    UpdateQuotaState,
)
from sessiond.core.errors import PeerFailed
from sessiond.core.rules import Catalogue
from sessiond.core.session import PolicyAnswer, Session

_log = structlog.get_logger(__name__)


class _Absent:
    """Says once that a peer is missed."""

    name = ""
    missed = False

    def _miss(self) -> None:
        if not self.missed:
            self.missed = True
            _log.debug("peer_absent", peer=self.name)

    async def close(self) -> None:
        """Do nothing: there is no connection."""


class NoPolicyController(_Absent):
    """Implements `app.ports.peers.PolicyPeer`: allows no session and takes no usage; an end concerns nobody."""

    name = "session_proxy"

    async def create(self, session: Session) -> PolicyAnswer:  # noqa: ARG002  the port's
        """Refuse: without a policy controller there are no gateway sessions."""
        raise self._failure()

    def requests(self, reports: Sequence[UsageReport], max_bytes: int) -> list[UpdateRequest]:  # noqa: ARG002  the port's
        """Return one request that will be refused: nobody takes the usage."""
        return [UpdateRequest(reports, self._update)]

    async def terminate(self, session: Session) -> None:  # noqa: ARG002  the port's
        """Do nothing."""
        self._miss()

    async def terminate_stale(self, subscriber: str, session_id: str) -> None:  # noqa: ARG002  the port's
        """Do nothing."""
        self._miss()

    async def _update(self) -> Mapping[str, UpdateAnswer]:
        raise self._failure()

    def _failure(self) -> PeerFailed:
        self._miss()
        text = "no policy controller is configured: peers.session_proxy"
        return PeerFailed("UNAVAILABLE", text, answered=True, reached=False)


class NoDataPlane(_Absent):
    """Implements `app.ports.peers.DataPlanePeer`: is always set up, has every flow, and counts nothing."""

    name = "pipelined"
    connected = True

    async def set_up(self, epoch: int, sessions: Sequence[Session], catalogue: Catalogue) -> SetupResult:  # noqa: ARG002  the port's
        """Succeed."""
        self._miss()
        return SetupResult.SUCCESS

    async def set_up_quota_states(self, sessions: Sequence[Session]) -> None:  # noqa: ARG002  the port's
        """Do nothing."""
        self._miss()

    async def activate(self, session: Session, effect: ActivateFlows, catalogue: Catalogue) -> tuple[str, ...]:  # noqa: ARG002  the port's
        """Do nothing; no rule has failed."""
        self._miss()
        return ()

    async def deactivate(self, session: Session, effect: DeactivateFlows) -> None:  # noqa: ARG002  the port's
        """Do nothing."""
        self._miss()

    async def export_flows(self, session: Session, effect: ExportFlows) -> None:  # noqa: ARG002  the port's
        """Do nothing."""
        self._miss()

    async def delete_mac_flow(self, session: Session) -> None:  # noqa: ARG002  the port's
        """Do nothing."""
        self._miss()

    async def update_quota_state(self, session: Session, effect: UpdateQuotaState) -> None:  # noqa: ARG002  the port's
        """Do nothing."""
        self._miss()

    async def deactivate_unknown(self, flows: UnknownFlows) -> None:  # noqa: ARG002  the port's
        """Do nothing."""
        self._miss()


class NoAccess(_Absent):
    """Implements `app.ports.peers.AccessPeer`: no bearer is ever made."""

    name = "spgw"

    async def create_bearer(self, session: Session, effect: CreateBearer, catalogue: Catalogue) -> None:  # noqa: ARG002  the port's
        """Do nothing."""
        self._miss()

    async def delete_bearer(self, session: Session, effect: DeleteBearer) -> None:  # noqa: ARG002  the port's
        """Do nothing."""
        self._miss()


class NoWifi(_Absent):
    """Implements `app.ports.peers.WifiPeer`: nobody disconnects devices."""

    name = "aaa"

    async def terminate(self, session: Session) -> None:  # noqa: ARG002  the port's
        """Do nothing."""
        self._miss()

    async def add_sessions(self, sessions: Sequence[Session]) -> None:  # noqa: ARG002  the port's
        """Do nothing."""
        self._miss()


class NoDirectory(_Absent):
    """Implements `app.ports.peers.DirectoryPeer`: knows of no subscriber."""

    name = "directoryd"

    async def write(self, session: Session) -> None:  # noqa: ARG002  the port's
        """Do nothing."""
        self._miss()

    async def delete(self, subscriber: str) -> None:  # noqa: ARG002  the port's
        """Do nothing."""
        self._miss()

    async def sessions(self) -> list[tuple[str, str]]:
        """Return no record."""
        self._miss()
        return []


class NoEvents(_Absent):
    """Implements `app.ports.peers.EventPeer`: nobody listens."""

    name = "eventd"

    async def log(self, event: LogEvent) -> None:  # noqa: ARG002  the port's
        """Do nothing."""
        self._miss()
