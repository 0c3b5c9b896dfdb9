"""The session: one immutable value made of parts, each of which is stored and changed by itself.

A gateway session has a context and a gateway; a stream session an identity and a stream; any other one, which is a
native session, an identity, limits, a record, options and access, and what it needs of the rest. What changes with
every use (the record, the traffic, the quotas) lies apart from what hardly ever does.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from msgspec import Struct

from sessiond.core.access import Access, Quota
from sessiond.core.charging import ChargingCredit, CreditAnswer
from sessiond.core.effects import QuotaState, Saved
from sessiond.core.keys import SessionSecret
from sessiond.core.lifecycle import State
from sessiond.core.monitors import Monitor, MonitorAnswer
from sessiond.core.rules import Rule, RuleInstall, Teids
from sessiond.core.traffic import Executions, Traffic


class Rat(StrEnum):
    """Radio access technology of a gateway session."""

    LTE = "LTE"
    WLAN = "WLAN"


class QosInformation(Struct, frozen=True, gc=False):
    """QoS of the default bearer (TS 29.212 clause 5.3.16); bit rates in the unit that `kbps` says."""

    apn_ambr_dl: int = 0
    apn_ambr_ul: int = 0
    priority_level: int = 0
    preemption_capability: int = 0
    preemption_vulnerability: int = 0
    qci: int = 0
    kbps: bool = False


class LteContext(Struct, frozen=True, gc=False, kw_only=True):
    """What the MME says about an LTE session."""

    spgw_ipv4: str = ""
    imei: str = ""
    plmn_id: str = ""
    imsi_plmn_id: str = ""
    user_location: bytes = b""
    qos: QosInformation | None = None
    bearer_id: int = 0
    charging_characteristics: str = ""


class WlanContext(Struct, frozen=True, gc=False, kw_only=True):
    """What the AAA server says about a carrier wifi session."""

    mac_addr_binary: bytes = b""
    mac_addr: str = ""
    radius_session_id: str = ""


class Context(Struct, frozen=True, gc=False, kw_only=True):
    """Who and where: the common context of a gateway session and the one of its access."""

    subscriber: str
    apn: str = ""
    ue_ipv4: str = ""
    ue_ipv6: str = ""
    msisdn: str = ""
    rat: Rat = Rat.LTE
    teids: Teids = Teids()
    lte: LteContext | None = None
    wlan: WlanContext | None = None


class DestinationHosts(Struct, frozen=True, gc=False):
    """The Diameter hosts that serve a session, learnt from their answers."""

    gx: str = ""
    gy: str = ""


class PolicyAnswer(Struct, frozen=True, gc=False, kw_only=True):
    """What the policy side said when the session was created; kept until the tunnels are known."""

    credits: tuple[CreditAnswer, ...] = ()
    monitors: tuple[MonitorAnswer, ...] = ()
    installs: tuple[RuleInstall, ...] = ()
    hosts: DestinationHosts = DestinationHosts()
    online: bool = False
    revalidation_at_ms: int | None = None


class RevalidationState(StrEnum):
    """How far a revalidation of the policy has come (REVALIDATION_TIMEOUT, TS 29.212 clause 5.3.7)."""

    PENDING = "PENDING"
    READY = "READY"
    SENT = "SENT"


class Revalidation(Struct, frozen=True, gc=False):
    """When the policy is to be asked again; `number` is that of the request on its way, 0 if there is none."""

    state: RevalidationState
    at_ms: int
    number: int = 0


class Head(Struct, frozen=True, gc=False, kw_only=True):
    """The life of a session; times are unix milliseconds, 0 while the moment has not come."""

    state: State
    created_at_ms: int
    activated_at_ms: int = 0
    closing_at_ms: int = 0
    closed_at_ms: int = 0
    reason: str = ""
    message: str = ""
    """What who ended it had to say."""
    forget_at_ms: int = 0
    """When a session that is over is no longer kept; 0: never, or it is not over."""
    forgotten: bool = False
    """Nobody may look at it any more: it goes with this very write."""


class GivenTime(Struct, frozen=True, gc=False):
    """A moment, or a span of time, to the nanosecond: kept as it was given."""

    seconds: int = 0
    nanos: int = 0


class Identity(Struct, frozen=True, gc=False, kw_only=True):
    """Who a session is that is no gateway's: whose it is, and what its owner calls it."""

    data_source: str = ""
    namespace: str = ""
    """Of a native session: whose sessions it is among."""
    msisdn: str = ""
    """Of a native session: its phone number (E.164), or nothing."""
    parent: str = ""
    """Of a native session: the key of the session that it acts for, or nothing."""
    parent_created_at_ms: int = 0
    """When that session was created: another one may have its key by now. 0: nobody noted it."""
    kind: str = ""
    """Free text of the owner of a stream session; the type of the session is ours."""
    identifier: str = ""
    version: int = 1
    utc_offset: GivenTime | None = None
    number: int = 0
    """Counts sessions up: those of a data source are listed in this order."""


class Stream(Struct, frozen=True, gc=False, kw_only=True):
    """What only stream sessions have: where their data is in the broker, and the times that their owner gave."""

    streams: tuple[str, ...] = ()
    start_offsets: Mapping[str, int] = {}
    end_offsets: Mapping[str, int] = {}
    created: GivenTime | None = None
    """When it began, if the owner said; else the head says when it was created."""
    terminated: GivenTime | None = None


class Limits(Struct, frozen=True, gc=False, kw_only=True):
    """When time alone ends a native session: unix milliseconds, and spans of milliseconds; 0: never."""

    expire_at_ms: int = 0
    """Already held to the maximum duration."""
    max_duration_ms: int = 0
    """Counted from the creation."""
    idle_timeout_ms: int = 0
    """Counted from when it was last used."""
    decide_by_ms: int = 0
    """REQUESTED, CREATING, ACTIVATING: when what is awaited is given up."""


class Record(Struct, frozen=True, gc=False, kw_only=True):
    """What every use of a native session moves; times are unix milliseconds."""

    changes: int = 1
    """How many writes by its users and by time it has seen: what its etag is made of. Mere use does not count."""
    updated_at_ms: int = 0
    used_at_ms: int = 0
    """When it was last used; a use that comes soon after this one is only remembered in memory."""


class Options(Struct, frozen=True, gc=False, kw_only=True):
    """How a native session is run."""

    auto_expire: bool = True
    """False: when its time is over it is not found any more, and not ended either."""
    execution_logging: bool = False
    performance_monitoring: bool = False
    sensitive_details: tuple[str, ...] = ()
    """Names of details that are nobody else's business."""
    leave_inactive: bool = False
    """Once it is agreed to, it is CREATED and waits to be activated."""


class Peer(Struct, frozen=True, gc=False, kw_only=True):
    """The other node of a session between nodes."""

    node_id: bytes = b""
    capabilities: tuple[str, ...] = ()
    address: str = ""
    transport: str = ""
    previous_transport: str = ""
    """How it was reached before it was resumed on another one."""
    resumptions: int = 0


class Remembered(Struct, frozen=True, gc=False):
    """A request that was carried out: a digest of its content, and when it was (unix ms)."""

    digest: str
    at_ms: int


class Gateway(Struct, frozen=True, gc=False, kw_only=True):
    """What a gateway session has beside its rules and quotas."""

    request_number: int = 1
    effects_made: int = 0
    hosts: DestinationHosts = DestinationHosts()
    answer: PolicyAnswer | None = None
    session_monitor: str = ""
    revalidation: Revalidation | None = None
    decide_by_ms: int = 0
    """CREATING: when the policy answer is given up. CLOSING: when the final usage is no longer waited for."""
    quota_state: QuotaState | None = None
    """Carrier wifi: what pipelined was last told."""
    end_without_quota_at_ms: int = 0
    """Carrier wifi: when a session that began with nothing to spend is ended."""
    final: bool = False
    """The final usage is in; the end is reported as soon as no other report is in flight."""


class Session(Struct, frozen=True, gc=False, kw_only=True):
    """A session of any type; `scope` is the subscriber of a gateway session and the key itself of any other."""

    key: str
    type: str
    scope: str
    head: Head
    context: Context | None = None
    gateway: Gateway | None = None
    identity: Identity | None = None
    stream: Stream | None = None
    limits: Limits | None = None
    record: Record | None = None
    options: Options | None = None
    access: Access | None = None
    traffic: Traffic | None = None
    executions: Executions | None = None
    peer: Peer | None = None
    secret: SessionSecret | None = None
    """The key of a native session, if it has one."""
    details: Mapping[str, Any] = {}
    """What its owner says about it: JSON values other than null, by key."""
    associates: Mapping[str, str] = {}
    """The keys of sessions tied to it, by a running number, in the order in which they were added."""
    rules: Mapping[str, Rule] = {}
    credits: Mapping[str, ChargingCredit] = {}
    monitors: Mapping[str, Monitor] = {}
    effects: Mapping[str, Saved] = {}
    quotas: Mapping[str, Quota] = {}
    """How much a native session may use, by resource; one that is not there has no limit."""
    requests: Mapping[str, Remembered] = {}
    """The requests that changed it lately, by the ids that their senders gave them."""


def finished(session: Session) -> bool:
    """Whether a session is to go: once it is forgotten; a gateway session, when it is over and everybody knows.

    A gateway session that is to be forgotten at a certain time stays until then too.
    """
    if session.gateway is None:
        return session.head.forgotten
    kept = session.head.forget_at_ms != 0 and not session.head.forgotten
    return session.head.state is State.CLOSED and not session.effects and not kept
