"""The peer ports: what the application asks of the policy side, the data plane, the access side and the bystanders.

Every method has a deadline of its own and raises `core.errors.PeerFailed` if the peer refuses or does not answer;
`PeerFailed.answered` says whether it is certain that the request was not carried out.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Protocol

from msgspec import Struct

from sessiond.core.decide.answer import UpdateAnswer
from sessiond.core.decide.attachment import Attachments
from sessiond.core.effects import (
    ActivateFlows,
    CreateBearer,
    DeactivateFlows,
    DeleteBearer,
    ExportFlows,
    LogEvent,
    UpdateQuotaState,
)
from sessiond.core.rules import Catalogue
from sessiond.core.session import PolicyAnswer, Session


class UsageReport(Struct, frozen=True, gc=False):
    """A session, and the numbers of the requests whose reports in flight are to be sent."""

    session: Session
    numbers: frozenset[int]


class UpdateRequest(Struct, frozen=True, gc=False):
    """One request that carries usage reports; sending it returns the answer by session key."""

    reports: Sequence[UsageReport]
    send: Callable[[], Awaitable[Mapping[str, UpdateAnswer]]]


class UnknownFlows(Struct, frozen=True, gc=False):
    """Flows that the data plane reports and no session wants."""

    subscriber: str
    ue_ipv4: str = ""
    ue_ipv6: str = ""
    teid: int = 0


class SetupResult(StrEnum):
    """What pipelined says to a setup."""

    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    OUTDATED_EPOCH = "OUTDATED_EPOCH"


class PolicyPeer(Protocol):
    """PCRF and OCS, as session_proxy or policydb speaks for them (`magma.lte.CentralSessionController`)."""

    async def create(self, session: Session) -> PolicyAnswer:
        """Ask whether a session may be, and under which rules and quotas (CCR-I)."""
        ...

    def requests(self, reports: Sequence[UsageReport], max_bytes: int) -> Iterable[UpdateRequest]:
        """Return the requests that report usage of many sessions (CCR-U), none larger than so many bytes.

        A session that is larger than that goes alone. An answer is empty for a session that it does not mention.
        """
        ...

    async def terminate(self, session: Session) -> None:
        """Report the end of a session with all usage not reported before (CCR-T)."""
        ...

    async def terminate_stale(self, subscriber: str, session_id: str) -> None:
        """Report the end of a session of which nothing is known but its id."""
        ...


class DataPlanePeer(Protocol):
    """Pipelined, which installs flows and counts what they carry (`magma.lte.Pipelined`)."""

    @property
    def connected(self) -> bool:
        """Whether there is a connection to it at this moment."""
        ...

    async def set_up(self, epoch: int, sessions: Sequence[Session], catalogue: Catalogue) -> SetupResult:
        """Install everything that these sessions want; the result is the worse of the two setup calls."""
        ...

    async def set_up_quota_states(self, sessions: Sequence[Session]) -> None:
        """Say again, after a setup, what was last said of the wallets of these sessions; a failure decides nothing."""
        ...

    async def activate(self, session: Session, effect: ActivateFlows, catalogue: Catalogue) -> tuple[str, ...]:
        """Install flows of some rules; return the ids of rules it could not install."""
        ...

    async def deactivate(self, session: Session, effect: DeactivateFlows) -> None:
        """Remove flows of some rules, or of the whole subscriber."""
        ...

    async def export_flows(self, session: Session, effect: ExportFlows) -> None:
        """Export the flows of a session (IPFIX)."""
        ...

    async def delete_mac_flow(self, session: Session) -> None:
        """Forget the MAC address of a carrier wifi session."""
        ...

    async def update_quota_state(self, session: Session, effect: UpdateQuotaState) -> None:
        """Say whether a carrier wifi subscriber has anything left to spend."""
        ...

    async def deactivate_unknown(self, flows: UnknownFlows) -> None:
        """Remove flows that belong to no session."""
        ...


class AccessPeer(Protocol):
    """The MME, for its bearers (`magma.lte.SpgwService`)."""

    async def create_bearer(self, session: Session, effect: CreateBearer, catalogue: Catalogue) -> None:
        """Ask for dedicated bearers."""
        ...

    async def delete_bearer(self, session: Session, effect: DeleteBearer) -> None:
        """Ask to take bearers down."""
        ...


class AttachmentPeer(Protocol):
    """Who knows what is attached: the MME (`sessiond.peers.v1.AccessGateway`), or mobilityd."""

    @property
    def name(self) -> str:
        """Its name in the configuration."""
        ...

    async def attachments(self) -> Attachments:
        """Return everything that is attached."""
        ...


class WifiPeer(Protocol):
    """The AAA server of a carrier wifi gateway (`aaa.protos.accounting`)."""

    async def terminate(self, session: Session) -> None:
        """Say that a session is over, so that the device is disconnected."""
        ...

    async def add_sessions(self, sessions: Sequence[Session]) -> None:
        """Tell which sessions still stand after a restart."""
        ...


class DirectoryPeer(Protocol):
    """Directoryd, which knows where a subscriber is (`magma.orc8r.GatewayDirectoryService`)."""

    async def write(self, session: Session) -> None:
        """Write the record of the session's subscriber."""
        ...

    async def delete(self, subscriber: str) -> None:
        """Delete the record of a subscriber."""
        ...

    async def sessions(self) -> list[tuple[str, str]]:
        """Return (subscriber, session id) of every record that names a session."""
        ...


class EventPeer(Protocol):
    """Eventd, which passes events on (`magma.orc8r.EventService`)."""

    async def log(self, event: LogEvent) -> None:
        """Pass an event on."""
        ...


class Peers(Struct, frozen=True):
    """All peers of a daemon."""

    policy: PolicyPeer
    data_plane: DataPlanePeer
    access: AccessPeer
    wifi: WifiPeer
    directory: DirectoryPeer
    events: EventPeer
    attachments: AttachmentPeer | None = None
    """Nobody: the sessions of an earlier run are taken as they are."""
    without: frozenset[str] = frozenset()
    """Those that are configured away and whom nothing needs to be told, by their names in the configuration."""
