"""Messages that gateways send, about devices that are told apart by a number."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sessiond.pb.magma.lte import credit_pb2, rule_stats_pb2, session_context_pb2, session_manager_pb2, subscriber_pb2
from sessiond.pb.magma.lte.session_proxy_pb2 import CreateSessionResponse, CreditUpdateResponse, SessionTerminateRequest

EPOCH: Final = 1_700_000_000
"""When the data plane of the tests started."""
GRANT: Final = 100_000
"""The octets of a grant, unless a test says otherwise."""
RULES: Final[Sequence[dict[str, Any]]] = (
    {"id": "web", "rating_group": 1, "tracking_type": "ONLY_OCS", "priority": 10},
    {"id": "video", "rating_group": 2, "tracking_type": "ONLY_OCS", "priority": 9},
    {"id": "more_web", "rating_group": 1, "tracking_type": "ONLY_OCS", "priority": 8},
    {"id": "free", "tracking_type": "NO_TRACKING", "priority": 20},
)
"""The static rules, unless a test says otherwise."""

Context = session_context_pb2.CommonSessionContext
Create = session_manager_pb2.LocalCreateSessionRequest
Tunnels = session_manager_pb2.UpdateTunnelIdsRequest
End = session_manager_pb2.LocalEndSessionRequest
Bind = session_manager_pb2.PolicyBearerBindingRequest
Record = rule_stats_pb2.RuleRecord
Table = rule_stats_pb2.RuleRecordTable


class Device(NamedTuple):
    """A device of a subscriber, attached to one APN."""

    number: int
    apn: str = "internet"
    bearer_id: int = 5

    @property
    def subscriber(self) -> str:
        """The subscriber id."""
        return f"IMSI00101{self.number:010d}"

    @property
    def ue_ipv4(self) -> str:
        """The address that the device has on this APN."""
        return f"10.{self.bearer_id}.{self.number // 256}.{self.number % 256}"

    def create(self, imei: str = "") -> Create:
        """Return what the MME says when the device attaches."""
        lte = session_context_pb2.LTESessionContext(bearer_id=self.bearer_id, imei=imei)
        return Create(
            common_context=Context(
                sid=sid(self.subscriber), apn=self.apn, ue_ipv4=self.ue_ipv4, msisdn=b"49%d" % self.number
            ),
            rat_specific_context=session_context_pb2.RatSpecificContext(lte_context=lte),
        )

    def tunnels(self, session_id: str = "") -> Tunnels:
        """Return what the MME says when the tunnels of the device stand."""
        return Tunnels(
            sid=sid(self.subscriber),
            bearer_id=self.bearer_id,
            enb_teid=1000 + self.number,
            agw_teid=5000 + self.number,
            session_id=session_id,
        )

    def end(self) -> End:
        """Return what the MME says when the device detaches."""
        return End(sid=sid(self.subscriber), apn=self.apn)

    def used(self, tx: int, rx: int, rule: str = "web", version: int = 1) -> Record:
        """Return what pipelined counted of the device since a rule was installed in this version."""
        return Record(
            sid=self.subscriber, ue_ipv4=self.ue_ipv4, rule_id=rule, rule_version=version, bytes_tx=tx, bytes_rx=rx
        )


def amounts(end: SessionTerminateRequest) -> list[tuple[int, int]]:
    """Return the octets up and down that the last report of a session names, by credit."""
    return [(usage.bytes_tx, usage.bytes_rx) for usage in end.credit_usages]


def sid(subscriber: str) -> subscriber_pb2.SubscriberID:
    """Return the message that names a subscriber."""
    return subscriber_pb2.SubscriberID(id=subscriber)


def granted(octets: int) -> credit_pb2.GrantedUnits:
    """Return a grant of so many octets, up and down together."""
    return credit_pb2.GrantedUnits(total=credit_pb2.CreditUnit(is_valid=True, volume=octets))


def quota(session_id: str, octets: int = GRANT, rating_group: int = 1, **fields: Any) -> CreditUpdateResponse:
    """Return what the OCS says when it grants quota; `fields` are those of the credit."""
    return CreditUpdateResponse(
        success=True,
        sid=session_id.partition("-")[0],
        session_id=session_id,
        charging_key=rating_group,
        result_code=2001,
        credit=credit_pb2.ChargingCredit(granted_units=granted(octets), **fields),
    )


def allowed(
    session_id: str, rules: Sequence[str] = ("web",), quotas: Sequence[CreditUpdateResponse] = ()
) -> CreateSessionResponse:
    """Return what the policy side says when it allows a session these static rules."""
    answer = CreateSessionResponse(session_id=session_id, online=True, credits=quotas or [quota(session_id)])
    for rule in rules:
        answer.static_rules.add(rule_id=rule)
    return answer
