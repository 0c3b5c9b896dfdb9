"""Rules and what installs them, and the policy file, which defines the static ones.

The core keeps of a rule what concerns sessions, and beside that all of it as octets.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.message import DecodeError

from sessiond.core.charging import RedirectServer
from sessiond.core.errors import InvalidArgument
from sessiond.core.rules import REDIRECT_PRIORITY, Lifetime, PolicyRule, RuleInstall, TrackingType
from sessiond.pb.magma.lte import policy_pb2, rule_install_pb2
from sessiond.pb.sessiond.catalogue.v1.redis_state_pb2 import RedisState
from sessiond.translate.scalars import named, octets_of, text_of, time_ms

_Redirect = policy_pb2.RedirectInformation
_ADDRESS_TYPES: Final = {
    "IPV4": _Redirect.IPv4,
    "IPV6": _Redirect.IPv6,
    "URL": _Redirect.URL,
    "SIP_URI": _Redirect.SIP_URI,
}
"""The kinds of address by the name they have in a credit; in a rule, two are written otherwise."""
_ADDRESS_NAMES: Final = {number: name for name, number in _ADDRESS_TYPES.items()}
_TRACKING_TYPES: Final = policy_pb2.PolicyRule.TrackingType
_KEYS: Final = {name for field in policy_pb2.PolicyRule.DESCRIPTOR.fields for name in (field.name, field.json_name)}


def policy_rule_from_wire(rule: policy_pb2.PolicyRule) -> PolicyRule:
    """Return a rule; one that is to count against something unknown counts against nothing."""
    return PolicyRule(
        id=rule.id,
        rating_group=rule.rating_group,
        service_identifier=rule.service_identifier.value or None,
        monitoring_key=text_of(rule.monitoring_key),
        tracking=named(_TRACKING_TYPES.Name, rule.tracking_type, TrackingType, TrackingType.NO_TRACKING),
        qci=rule.qos.qci if rule.HasField("qos") else None,
        redirect=_redirect_from_wire(rule.redirect) if rule.HasField("redirect") else None,
        definition=rule.SerializeToString(deterministic=True),
    )


def policy_rule_to_wire(rule: PolicyRule) -> policy_pb2.PolicyRule:
    """Return all of a rule: as it came, or for one of our own making, what it says."""
    if rule.definition:
        return policy_pb2.PolicyRule.FromString(rule.definition)
    if rule.redirect is not None:
        redirect = _redirect_to_wire(rule.redirect)
        return policy_pb2.PolicyRule(id=rule.id, priority=REDIRECT_PRIORITY, redirect=redirect)
    identifier = rule.service_identifier
    return policy_pb2.PolicyRule(
        id=rule.id,
        rating_group=rule.rating_group,
        service_identifier=policy_pb2.ServiceIdentifier(value=identifier) if identifier else None,
        monitoring_key=octets_of(rule.monitoring_key),
        tracking_type=_TRACKING_TYPES.Value(rule.tracking.name),
        qos=policy_pb2.FlowQos(qci=policy_pb2.FlowQos.Qci.ValueType(rule.qci)) if rule.qci is not None else None,
    )


def static_install_from_wire(install: rule_install_pb2.StaticRuleInstall) -> RuleInstall:
    """Return what installs a rule that we know by its id."""
    return RuleInstall(install.rule_id, None, _lifetime(install))


def dynamic_install_from_wire(install: rule_install_pb2.DynamicRuleInstall) -> RuleInstall:
    """Return what installs a rule that comes with its definition."""
    return RuleInstall(install.policy_rule.id, policy_rule_from_wire(install.policy_rule), _lifetime(install))


def _lifetime(install: rule_install_pb2.StaticRuleInstall | rule_install_pb2.DynamicRuleInstall) -> Lifetime:
    return Lifetime(time_ms(install.activation_time), time_ms(install.deactivation_time))


def _redirect_from_wire(redirect: policy_pb2.RedirectInformation) -> RedirectServer | None:
    if redirect.support != _Redirect.ENABLED:
        return None
    return RedirectServer(_ADDRESS_NAMES.get(redirect.address_type, "IPV4"), redirect.server_address)


def _redirect_to_wire(server: RedirectServer) -> policy_pb2.RedirectInformation:
    return _Redirect(
        support=_Redirect.ENABLED,
        address_type=_ADDRESS_TYPES[server.address_type],
        server_address=server.address,
    )


def policy_rule_from_redis(value: bytes) -> PolicyRule:
    """Return a rule as policydb keeps it in Redis; refuse what is none, or has no id."""
    try:
        rule = policy_pb2.PolicyRule.FromString(RedisState.FromString(value).serialized_msg)
    except DecodeError as error:
        raise InvalidArgument("POLICY_RULE_INVALID", "not a PolicyRule in a RedisState") from error
    if not rule.id:
        raise InvalidArgument("POLICY_RULE_INVALID", "a PolicyRule without an id")
    return policy_rule_from_wire(rule)


def catalogue_from_json(text: str) -> dict[str, PolicyRule]:
    """Return the rules of a policy file, `{"rules": [PolicyRule as proto JSON, ...]}`, by id.

    A file with mistakes is refused as a whole; the error has one line for each, by rule and key.
    """
    rules: dict[str, PolicyRule] = {}
    problems: list[str] = []
    for index, entry in enumerate(_entries(text)):
        found = list(_problems(entry))
        if not found and entry["id"] in rules:
            found.append("id: an earlier rule has the same")
        if found:
            problems += [f"{_place(index, entry)}: {problem}" for problem in found]
        else:
            rules[entry["id"]] = policy_rule_from_wire(json_format.ParseDict(entry, policy_pb2.PolicyRule()))
    if problems:
        raise _refused("\n".join(problems))
    return rules


def _entries(text: str) -> list[Any]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise _refused(f"not JSON: {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get("rules"), list):
        raise _refused('not a policy file, which is an object with a list of rules: {"rules": [...]}')
    if unknown := sorted(content.keys() - {"rules"}):
        raise _refused(f"unknown key {', '.join(unknown)}: a policy file has nothing beside its rules")
    rules: list[Any] = content["rules"]
    return rules


def _problems(entry: Any) -> Iterator[str]:
    """Yield what is wrong with a rule; the parser stops at the first mistake, so that keys are tried one by one."""
    if not isinstance(entry, dict):
        yield "not an object"
        return
    if not isinstance(entry.get("id"), str) or not entry["id"]:
        yield "id: missing, or not a text"
    if (problem := _problem(entry)) is None:
        return
    by_key = [(key, _problem({key: value})) for key, value in entry.items() if key != "id"]
    wrong = [(key, said.removeprefix(f"Failed to parse {key} field: ")) for key, said in by_key if said is not None]
    yield from (f"{key}: {said if key in _KEYS else 'no such key'}" for key, said in wrong)
    if not wrong and isinstance(entry.get("id"), str):
        yield problem


def _problem(entry: dict[str, Any]) -> str | None:
    """Return what the parser says against a rule, without its list of all keys there are; None if nothing."""
    try:
        json_format.ParseDict(entry, policy_pb2.PolicyRule())
    except json_format.ParseError as error:
        return str(error).partition("Available Fields")[0].strip()
    return None


def _place(index: int, entry: Any) -> str:
    """Return where a rule is, with its id if it has one."""
    name = entry.get("id") if isinstance(entry, dict) else None
    return f"rules[{index}] ({name})" if isinstance(name, str) and name else f"rules[{index}]"


def _refused(text: str) -> InvalidArgument:
    return InvalidArgument("POLICY_FILE_INVALID", text, field="rules")
