"""Messages of the gateway surface to commands and back; nothing is decided here."""

import asyncio
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final

import msgspec
from google.protobuf import json_format

from sessiond.app.usage import TableRow
from sessiond.core import rules
from sessiond.core.decide.reauth import PolicyChange
from sessiond.core.decide.rule_sets import RuleSet, RuleSets
from sessiond.core.lifecycle import State
from sessiond.core.rules import Catalogue, PolicyRule
from sessiond.core.session import Session
from sessiond.pb.magma.lte.rule_install_pb2 import RulesPerSubscriber
from sessiond.pb.magma.lte.rule_stats_pb2 import RuleRecordTable
from sessiond.pb.magma.lte.session_proxy_responder_pb2 import PolicyReAuthRequest
from sessiond.translate.rules import (
    dynamic_install_from_wire,
    policy_rule_from_wire,
    policy_rule_to_wire,
    static_install_from_wire,
)
from sessiond.translate.scalars import volume
from sessiond.translate.units import monitor_answer_from_wire, revalidation_at_ms

STATE_NAMES = {
    State.ACTIVE: "SESSION_ACTIVE",
    State.CLOSING: "SESSION_RELEASED",
    State.CLOSED: "SESSION_TERMINATED",
    State.CREATING: "SESSION_CREATING",
    State.CREATED: "SESSION_CREATED",
}
"""How the orchestrator knows the states."""
SESSIONS_IN_ONE_GO: Final = 100
"""How many sessions are translated before others have their turn."""


def table_rows(table: RuleRecordTable) -> Iterator[TableRow]:
    """Yield the rows of a usage table, which may be long."""
    for record in table.records:
        yield TableRow(
            record.sid,
            record.ue_ipv4,
            record.ue_ipv6,
            record.teid,
            record.rule_id,
            record.rule_version,
            volume(record.bytes_tx),
            volume(record.bytes_rx),
            record.dropped_tx,
            record.dropped_rx,
        )


def policy_change(request: PolicyReAuthRequest) -> PolicyChange:
    """Return what a PolicyReAuth wants changed."""
    static = [static_install_from_wire(install) for install in request.rules_to_install]
    dynamic = [dynamic_install_from_wire(install) for install in request.dynamic_rules_to_install]
    return PolicyChange(
        remove=tuple(request.rules_to_remove),
        installs=(*static, *dynamic),
        monitors=tuple(monitor_answer_from_wire(credit) for credit in request.usage_monitoring_credits),
        revalidation_at_ms=revalidation_at_ms(request.event_triggers, request.revalidation_time),
    )


def rule_sets(subscriber: RulesPerSubscriber) -> RuleSets:
    """Return the rules of a subscriber by APN, and those for all of them."""
    wide: RuleSet | None = None
    by_apn: dict[str, RuleSet] = {}
    for rule_set in subscriber.rule_set:
        static = frozenset(install.rule_id for install in rule_set.static_rules)
        dynamic = tuple(policy_rule_from_wire(install.policy_rule) for install in rule_set.dynamic_rules)
        if rule_set.apply_subscriber_wide:
            wide = RuleSet(static, dynamic)
        else:
            by_apn[rule_set.apn] = RuleSet(static, dynamic)
    return RuleSets(wide, by_apn)


async def operational_state(sessions: Iterable[Session], catalogue: Catalogue, now_ms: int) -> bytes:
    """Return the JSON that the orchestrator shows of a gateway's sessions: by subscriber, then by APN.

    There may be many: others have their turn in the event loop meanwhile.
    """
    subscribers: dict[str, dict[str, list[object]]] = {}
    for index, session in enumerate(sessions, start=1):
        if index % SESSIONS_IN_ONE_GO == 0:
            await asyncio.sleep(0)
        if session.context is not None:
            apns = subscribers.setdefault(session.context.subscriber, {})
            apns.setdefault(session.context.apn, []).append(_session_state(session, catalogue, now_ms))
    return msgspec.json.encode({"subscribers": subscribers})


def _session_state(session: Session, catalogue: Catalogue, now_ms: int) -> dict[str, object]:
    context, start_s = session.context, session.head.created_at_ms // 1000
    end_s = (session.head.closing_at_ms or now_ms) // 1000
    return {
        "session_id": session.key,
        "msisdn": context.msisdn if context else "",
        "ipv4": context.ue_ipv4 if context else "",
        "apn": context.apn if context else "",
        "session_start_time": start_s,
        "lifecycle_state": STATE_NAMES[session.head.state],
        "active_duration_sec": end_s - start_s,
        "active_policy_rules": [_rule_text(rule) for rule in _active_rules(session, catalogue)],
    }


def _active_rules(session: Session, catalogue: Catalogue) -> Iterable[PolicyRule]:
    for rule_id, rule in session.rules.items():
        known = rules.definition(rule_id, rule, catalogue)
        if rules.in_force(rule) and known is not None:
            yield known
        if rule.gy is not None:
            yield rule.gy


@lru_cache(maxsize=4096)
def _rule_text(rule: PolicyRule) -> str:
    return json_format.MessageToJson(policy_rule_to_wire(rule), indent=None)
