"""The session: one immutable value made of parts, each of which is stored and changed by itself."""

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct

from sessiond.core.charging import ChargingCredit, CreditAnswer
from sessiond.core.effects import QuotaState, Saved
from sessiond.core.lifecycle import State
from sessiond.core.monitors import Monitor, MonitorAnswer
from sessiond.core.rules import Rule, RuleInstall, Teids


class Rat(StrEnum):
    """Radio access technology of a gateway session."""

    LTE = "LTE"
    WLAN = "WLAN"


class QosInformation(Struct, frozen=True):
    """QoS of the default bearer (TS 29.212 clause 5.3.16); bit rates in the unit that `kbps` says."""

    apn_ambr_dl: int = 0
    apn_ambr_ul: int = 0
    priority_level: int = 0
    preemption_capability: int = 0
    preemption_vulnerability: int = 0
    qci: int = 0
    kbps: bool = False


class LteContext(Struct, frozen=True, kw_only=True):
    """What the MME says about an LTE session."""

    spgw_ipv4: str = ""
    imei: str = ""
    plmn_id: str = ""
    imsi_plmn_id: str = ""
    user_location: bytes = b""
    qos: QosInformation | None = None
    bearer_id: int = 0
    charging_characteristics: str = ""


class WlanContext(Struct, frozen=True, kw_only=True):
    """What the AAA server says about a carrier wifi session."""

    mac_addr_binary: bytes = b""
    mac_addr: str = ""
    radius_session_id: str = ""


class Context(Struct, frozen=True, kw_only=True):
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


class DestinationHosts(Struct, frozen=True):
    """The Diameter hosts that serve a session, learnt from their answers."""

    gx: str = ""
    gy: str = ""


class PolicyAnswer(Struct, frozen=True, kw_only=True):
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


class Revalidation(Struct, frozen=True):
    """When the policy is to be asked again; `number` is that of the request on its way, 0 if there is none."""

    state: RevalidationState
    at_ms: int
    number: int = 0


class Head(Struct, frozen=True, kw_only=True):
    """The life of a session; times are unix milliseconds, 0 while the moment has not come."""

    state: State
    created_at_ms: int
    activated_at_ms: int = 0
    closing_at_ms: int = 0
    closed_at_ms: int = 0
    reason: str = ""


class Gateway(Struct, frozen=True, kw_only=True):
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


class Session(Struct, frozen=True, kw_only=True):
    """A session of any type; `scope` is the subscriber of a gateway session and the key itself of any other."""

    key: str
    type: str
    scope: str
    head: Head
    context: Context | None = None
    gateway: Gateway | None = None
    rules: Mapping[str, Rule] = {}
    credits: Mapping[str, ChargingCredit] = {}
    monitors: Mapping[str, Monitor] = {}
    effects: Mapping[str, Saved] = {}


def finished(session: Session) -> bool:
    """Whether nothing is left to be done for a gateway session: it is over, and everybody knows."""
    return session.gateway is not None and session.head.state is State.CLOSED and not session.effects
