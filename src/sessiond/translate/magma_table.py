"""Sessions of a Magma gateway as its sessiond keeps them in Redis: JSON in JSON, with octets as characters.

A field of the table is a subscriber, its value a JSON array of texts, each of which is a session as a JSON object. Some
members of it are texts again that hold JSON, others hold the octets of a message, one character each and not encoded:
octets from 128 on stand in the value as they are, so that it is no UTF-8 (reference: store.md 4).
"""

import json
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp
from msgspec import Struct, structs

from sessiond.core import credit
from sessiond.core.charging import ChargingCredit, FinalAction, ReAuth, Service
from sessiond.core.credit import CreditLimit, Quota, Tracking
from sessiond.core.decide.release import release
from sessiond.core.draft import Draft
from sessiond.core.effects import QuotaState
from sessiond.core.errors import SessionError
from sessiond.core.ids import check_subscriber, credit_key, scope_of
from sessiond.core.lifecycle import State
from sessiond.core.monitors import Level, Monitor
from sessiond.core.rules import Bearer, Catalogue, Installed, PolicyRule, Rule, Seen, Target, Teids, target_of
from sessiond.core.session import Context, Gateway, Head, Rat, Revalidation, RevalidationState, Session
from sessiond.core.situation import Situation
from sessiond.pb.magma.lte import credit_pb2, policy_pb2, session_context_pb2
from sessiond.translate.context import context_from_wire, hosts_from_wire
from sessiond.translate.rules import policy_rule_from_wire
from sessiond.translate.scalars import octets_of, time_ms
from sessiond.translate.units import granted_units_from_wire, redirect_server_from_wire

M = TypeVar("M", bound=Message)
Json = Mapping[str, Any]

RELEASED: Final = 6
_STATES: Final = {
    0: "ACTIVE",
    4: "over already",
    6: "RELEASED",
    7: "not allowed by the policy side yet",
    8: "of a 5G gateway",
    10: "of a 5G gateway",
}
_LIMITS: Final = (CreditLimit.FINITE, CreditLimit.INFINITE_UNMETERED, CreditLimit.INFINITE_METERED)
_TRACKING: Final = {
    -1: Tracking.UNSET,
    0: Tracking.TOTAL_ONLY,
    1: Tracking.TX_ONLY,
    2: Tracking.RX_ONLY,
    3: Tracking.TX_AND_RX,
    4: Tracking.ALL_TOTAL_TX_RX,
}
_SERVICES: Final = tuple(Service)
_FINAL_ACTIONS: Final = tuple(FinalAction)
_LEVELS: Final = tuple(Level)
_QUOTA_STATES: Final = tuple(QuotaState)
_BUCKETS: Final = {
    "used_tx": 0, "used_rx": 1, "allowed_total": 2, "allowed_tx": 3, "allowed_rx": 4,
    "reported_tx": 7, "reported_rx": 8, "floor_total": 9, "floor_tx": 10, "floor_rx": 11,
}  # fmt: skip
"""Where the counters of a quota stand; 5 and 6, what is in flight, are never written."""
_NEVER_S: Final = 2**32
"""From here on an expiry time is the largest number there is, or one that nobody has set."""
_REVALIDATION: Final = "17"
_PENDING_TRIGGERS: Final = {0: RevalidationState.PENDING, 1: RevalidationState.READY}
_STATIC: Final = 1


class Found(Struct, frozen=True):
    """A session of the table, and what an operator should know of it."""

    session: Session
    notes: tuple[str, ...] = ()


class Refused(Struct, frozen=True):
    """An entry of the table that cannot be taken, by whatever name it has, and why."""

    subscriber: str
    session_id: str
    why: str


class _Unfit(ValueError):
    """What stands in the table cannot be taken."""


def sessions_in(field: bytes, value: bytes, catalogue: Catalogue, at: Situation) -> list[Found | Refused]:
    """Return what a field of the table holds; static rules count on what the catalogue says of them."""
    subscriber = field.decode("latin-1")
    try:
        texts = _array(_parsed(value.decode("latin-1")))
    except (_Unfit, RecursionError) as error:
        return [Refused(subscriber, "?", f"the entry is no list of sessions: {error}")]
    return [_one(subscriber, text, catalogue, at) for text in texts]


def _one(subscriber: str, text: Any, catalogue: Catalogue, at: Situation) -> Found | Refused:
    session_id = "?"
    try:
        stored = _object(_parsed(text))
        session_id = _text(stored, "session_id")
        return _Reader(subscriber, session_id, stored, catalogue).found(at)
    except (SessionError, _Unfit) as error:
        return Refused(subscriber, session_id, str(error))
    except (ArithmeticError, LookupError, TypeError, ValueError, RecursionError, DecodeError) as error:
        return Refused(subscriber, session_id, f"malformed: {_shown(error)}")


class _Reader:
    """Reads one session."""

    def __init__(self, subscriber: str, session_id: str, stored: Json, catalogue: Catalogue) -> None:
        self._subscriber = subscriber
        self._key = session_id
        self._stored = stored
        self._catalogue = catalogue
        self._notes: list[str] = []

    def found(self, at: Situation) -> Found:
        """Return the session; raise what is wrong with it."""
        state = int(self._stored["fsm_state"])
        if state not in {0, RELEASED}:
            raise _Unfit(f"it is {_STATES.get(state, f'in state {state}, which nobody knows')}")
        context = self._context()
        self._check_names(context)
        if self._stored["create_session_response"] and not self._stored["static_rule_ids"]:
            raise _Unfit("its tunnels are not known yet: it is still being attached")
        session = self._session(context)
        if state == RELEASED:
            draft = Draft(session)
            release(draft, at, "ENDED", notify=False)
            session = draft.session()
            self._notes.append("it is being released")
        return Found(session, tuple(self._notes))

    def _session(self, context: Context) -> Session:
        created_at_ms = 1000 * int(self._stored["pdp_start_time"])
        return Session(
            key=self._key,
            type=context.rat.lower(),
            scope=context.subscriber,
            head=Head(state=State.ACTIVE, created_at_ms=created_at_ms, activated_at_ms=created_at_ms),
            context=context,
            gateway=Gateway(
                request_number=int(self._stored["request_number"]),
                hosts=hosts_from_wire(_message(self._stored["tgpp_context"], session_context_pb2.TgppContext())),
                session_monitor=_text(self._stored, "session_level_key"),
                revalidation=self._revalidation(),
                quota_state=self._quota_state(context),
            ),
            rules=self._rules(context),
            credits=self._credits(),
            monitors=self._monitors(),
        )

    def _context(self) -> Context:
        config = _inner(self._stored, "config")
        common = _message(config["common_context"], session_context_pb2.CommonSessionContext())
        specific = _message(config["rat_specific_context"], session_context_pb2.RatSpecificContext())
        if common.rat_type == session_context_pb2.TGPP_NR or specific.HasField("m5gsm_session_context"):
            raise _Unfit("it is of a 5G gateway")
        return context_from_wire(common, specific)

    def _check_names(self, context: Context) -> None:
        check_subscriber(context.subscriber, "config.common_context.sid")
        if not self._subscriber == _text(self._stored, "imsi") == context.subscriber:
            raise _Unfit(f"it is of {context.subscriber}, and stands under {self._subscriber}")
        if scope_of(self._key) != self._subscriber:
            raise _Unfit(f"its id is not {self._subscriber} with a number of up to 6 digits")

    def _revalidation(self) -> Revalidation | None:
        triggers = _inner(self._stored, "pending_event_triggers")["event_trigger_map"]
        state = _PENDING_TRIGGERS.get(int(triggers.get(_REVALIDATION, -1)))
        at_ms = time_ms(_message(self._stored["revalidation_time"], Timestamp()))
        return Revalidation(state, at_ms) if state is not None and at_ms else None

    def _quota_state(self, context: Context) -> QuotaState | None:
        return _QUOTA_STATES[_index(self._stored["subscriber_quota_state"])] if context.rat is Rat.WLAN else None

    # -- quotas

    def _credits(self) -> dict[str, ChargingCredit]:
        pool = _inner(self._stored, "charging_pool")
        keys = [(int(key["rating_group"]), int(key["service_identifier"])) for key in pool["credit_keys"]]
        places = [f"{group}{identifier}" for group, identifier in keys]
        if len(set(places)) < len(places):
            raise _Unfit("two of its credits are stored as one, so that one is lost")
        return {
            credit_key(group, identifier or None): self._credit(_object(_parsed(pool["credit_map"][place])))
            for (group, identifier), place in zip(keys, places, strict=True)
        }

    def _credit(self, grant: Json) -> ChargingCredit:
        final, stored = _inner(grant, "final_action_info"), _inner(grant, "credit")
        expires_s = int(grant["expiry_time"])
        reauth = tuple(ReAuth)[_index(grant["reauth_state"])]
        return ChargingCredit(
            **self._quota(stored),
            is_final=bool(grant["is_final"]),
            final_action=_FINAL_ACTIONS[_index(final["final_action"])],
            redirect=redirect_server_from_wire(_message(final["redirect_server"], credit_pb2.RedirectServer())),
            restrict_rules=tuple(_readable(rule) for rule in final["restrict_rules"]),
            expires_at_ms=1000 * expires_s if 0 < expires_s < _NEVER_S else None,
            service=_SERVICES[_index(grant["service_state"])],
            reauth=ReAuth.REQUIRED if reauth is ReAuth.PROCESSING else reauth,
            suspended=bool(grant["suspended"]),
        )

    def _monitors(self) -> dict[str, Monitor]:
        stored = _inner(self._stored, "monitor_map")
        return {key: self._monitor(_object(_parsed(stored["monitor_map"][key]))) for key in stored["monitor_keys"]}

    def _monitor(self, stored: Json) -> Monitor:
        quota = _inner(stored, "credit")
        level, last_report = _LEVELS[_index(stored["level"])], bool(quota["report_last_credit"])
        return Monitor(**self._quota(quota), level=level, last_report=last_report)

    def _quota(self, stored: Json) -> dict[str, Any]:
        """Return the fields of a quota; what was in flight counts as not reported, for nobody knows better."""
        if stored["reporting"] and "a report was on its way" not in self._notes:
            self._notes.append("a report was on its way")
        fields: dict[str, Any] = {
            "limit": _LIMITS[_index(stored["credit_limit_type"])],
            "tracking": _TRACKING[int(stored["grant_tracking_type"])],
            "granted": granted_units_from_wire(_message(stored["received_granted_units"], credit_pb2.GrantedUnits())),
            "first_usage_s": int(stored["time_of_first_usage"]),
            "last_usage_s": int(stored["time_of_last_usage"]),
            **{name: _index(stored["buckets"][str(place)]) for name, place in _BUCKETS.items()},
        }
        left = credit.unreported(Quota(**fields))
        if left.tx < 0 or left.rx < 0:
            raise _Unfit("more of a quota is reported than used")
        return fields

    # -- rules

    def _rules(self, context: Context) -> dict[str, Rule]:
        statistics = _inner(self._stored, "policy_version_and_stats")["policy_stats_map"]
        static = [_readable(rule) for rule in self._stored["static_rule_ids"]]
        dynamic, gy = self._definitions("dynamic_rules"), self._definitions("gy_dynamic_rules")
        known = {_readable(rule): _object(counted) for rule, counted in statistics.items()}
        bearers = self._bearers({*static})
        if unknown := sorted(set(static) - self._catalogue.keys()):
            self._notes.append(f"nobody defines {', '.join(unknown)}: their usage counts on nothing")
        return {
            rule: self._rule(rule, known.get(rule), static, dynamic, gy, bearers.get(rule), context)
            for rule in sorted({*known, *static, *dynamic, *gy})
        }

    def _rule(
        self,
        name: str,
        counted: Json | None,
        static: list[str],
        dynamic: Mapping[str, PolicyRule],
        gy: Mapping[str, PolicyRule],
        bearer: Bearer | None,
        context: Context,
    ) -> Rule:
        definition = dynamic.get(name) or gy.get(name) or self._catalogue.get(name)
        present = name in static or name in dynamic
        rule = Rule(
            version=1 if present or name in gy else 0,  # what pipelined was told where the table has none
            gx=Installed(dynamic.get(name)) if present else None,
            gy=gy.get(name),
            bearer=bearer,
            target=target_of(definition) if definition is not None else Target(),
        )
        if counted is not None:
            rule = _with_counters(rule, counted, context)
        awaits = definition is not None and present and bearer is None and _wants_bearer(definition, context)
        if awaits and rule.gx is not None:
            rule = structs.replace(rule, gx=structs.replace(rule.gx, awaits_bearer=True))
        return rule

    def _definitions(self, member: str) -> dict[str, PolicyRule]:
        messages = (_message(octets, policy_pb2.PolicyRule()) for octets in self._stored[member])
        return {message.id: policy_rule_from_wire(message) for message in messages}

    def _bearers(self, static: set[str]) -> dict[str, Bearer]:
        """Return the dedicated bearer of each rule; the table tells a static rule from a dynamic one of its name."""
        bearers: dict[str, Bearer] = {}
        for entry in _array(_parsed(self._stored["bearer_id_by_policy"])):
            rule, is_static = _readable(entry["rule_id"]), int(entry["type"]) == _STATIC
            if is_static == (rule in static):
                teids = Teids(enb=_unsigned(entry["enb_teid"]), agw=_unsigned(entry["agw_teid"]))
                bearers[rule] = Bearer(_index(entry["bearer_id"]), teids)
        return bearers


def _with_counters(rule: Rule, counted: Json, context: Context) -> Rule:
    """Return a rule with its version, and with what was counted last.

    The table has one counter for both IP versions; who has two addresses has it for both, so that nothing counts twice.
    """
    by_version = {int(version): _volumes(_parsed(text)) for version, text in counted["stats_map"].items()}
    last = int(counted["last_reported_version"])
    seen = Seen(last, *by_version.get(last, (0, 0, 0, 0)))
    moved = [sum(volumes[leg] for volumes in by_version.values()) for leg in range(4)]
    return structs.replace(
        rule,
        version=max(rule.version, int(counted["current_version"])),
        seen_ipv4=Seen() if context.ue_ipv6 and not context.ue_ipv4 else seen,
        seen_ipv6=seen if context.ue_ipv6 else Seen(),
        moved_tx=moved[0],
        moved_rx=moved[1],
        dropped_tx=moved[2],
        dropped_rx=moved[3],
    )


def _volumes(stored: Any) -> tuple[int, int, int, int]:
    return (
        _index(stored["tx"]),
        _index(stored["rx"]),
        _index(stored.get("dropped_tx", 0)),
        _index(stored.get("dropped_rx", 0)),
    )


def _wants_bearer(definition: PolicyRule, context: Context) -> bool:
    """Whether a rule has no flows before it has a bearer of its own."""
    lte = context.lte
    return lte is not None and definition.qci is not None and definition.qci != (lte.qos.qci if lte.qos else 0)


# -- JSON


def _parsed(text: Any) -> Any:
    """Return what a text holds as JSON; control characters in texts are taken as they are."""
    if not isinstance(text, str):
        raise _Unfit(f"a text with JSON was expected, not {_shown(text)}")
    try:
        return json.loads(text, strict=False)
    except ValueError as error:
        raise _Unfit(f"not JSON: {error}") from None


def _inner(stored: Json, member: str) -> Any:
    return _parsed(stored[member])


def _object(value: Any) -> Json:
    if isinstance(value, str):
        return _object(_parsed(value))
    if not isinstance(value, dict):
        raise _Unfit(f"an object was expected, not {_shown(value)}")
    return value


def _array(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _Unfit(f"a list was expected, not {_shown(value)}")
    return value


def _text(stored: Json, member: str) -> str:
    value = stored[member]
    if not isinstance(value, str):
        raise _Unfit(f"{member} is no text")
    return value


def _message(octets: str, message: M) -> M:
    """Return the message whose octets are the characters of a text."""
    message.ParseFromString(octets_of(octets))
    return message


def _readable(text: str) -> str:
    """Return a name, whose octets are the characters of a text, as it was written."""
    return octets_of(text).decode()


def _index(value: Any) -> int:
    """Return a number that is not negative."""
    if (number := int(value)) < 0:
        raise ValueError(f"{number} is negative")
    return number


def _unsigned(teid: Any) -> int:
    """Return a tunnel id, which is written as if it were signed."""
    return int(teid) & 0xFFFF_FFFF


def _shown(value: Any) -> str:
    return f"{type(value).__name__}: {str(value)[:80]!r}"
