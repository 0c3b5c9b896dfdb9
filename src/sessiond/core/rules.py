"""Policy rules of a session (TS 23.203 clause 6.3): where they come from, when they are in force, their versions.

A version counts up with every change of a rule, so that the data plane and we mean the same flows: usage of version 1
is told from usage of version 2, and the flows of an older version go away.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeAlias

from msgspec import Struct, structs

from sessiond.core.charging import RedirectServer
from sessiond.core.ids import credit_key

REDIRECT_RULE: Final = "redirect"
"""The id of the rule that carries a redirection."""
REDIRECT_PRIORITY: Final = 2000
FORMER_TARGETS: Final = 8
"""How many changes of what a rule counts on are remembered: more than there are between two usage tables."""


class TrackingType(StrEnum):
    """Who counts the traffic of a rule: the OCS (Gy), the PCRF (Gx), both or nobody."""

    ONLY_OCS = "ONLY_OCS"
    ONLY_PCRF = "ONLY_PCRF"
    OCS_AND_PCRF = "OCS_AND_PCRF"
    NO_TRACKING = "NO_TRACKING"


class PolicyRule(Struct, frozen=True, gc=False, kw_only=True):
    """A rule as far as sessions are concerned; `definition` is all of it, serialized, for those who know flows."""

    id: str
    rating_group: int = 0
    service_identifier: int | None = None
    monitoring_key: str = ""
    tracking: TrackingType = TrackingType.ONLY_OCS
    qci: int | None = None
    redirect: RedirectServer | None = None
    definition: bytes = b""


Catalogue: TypeAlias = Mapping[str, PolicyRule]
"""The static rules by id."""


class Target(Struct, frozen=True, gc=False):
    """What the traffic of a rule counts on: a charging credit, a usage monitor, both or neither ("")."""

    credit: str = ""
    monitor: str = ""


class Former(Struct, frozen=True, gc=False):
    """What the traffic of a rule counted on before it was defined otherwise, up to and including a version."""

    version: int
    target: Target


class Lifetime(Struct, frozen=True, gc=False):
    """When a rule is in force; unix time in milliseconds, 0 is open."""

    activation_ms: int = 0
    deactivation_ms: int = 0


class Teids(Struct, frozen=True, gc=False):
    """The two ends of a GTP tunnel: eNodeB (downlink) and access gateway (uplink)."""

    enb: int = 0
    agw: int = 0


class Bearer(Struct, frozen=True, gc=False):
    """A dedicated bearer that carries a rule."""

    id: int
    teids: Teids = Teids()


class Installed(Struct, frozen=True, gc=False):
    """A Gx rule that a session has: in force, or scheduled for its activation time.

    `rule` is the definition of a dynamic rule; a static one is defined in the catalogue and has None here.
    """

    rule: PolicyRule | None = None
    scheduled: bool = False
    lifetime: Lifetime = Lifetime()
    awaits_bearer: bool = False
    """A dedicated bearer was asked for; no flows before it is there."""


class Seen(Struct, frozen=True, gc=False):
    """The last usage record that was counted, for one rule and one IP version: cumulative octets of that version."""

    version: int = 0
    tx: int = 0
    rx: int = 0
    dropped_tx: int = 0
    dropped_rx: int = 0


class Rule(Struct, frozen=True, gc=False, kw_only=True):
    """Everything a session knows about one rule id; it stays after removal, because versions and usage go on."""

    version: int = 0
    base: int = 0
    """Versions up to this one belong to an earlier session of the subscriber, whose usage is not ours."""
    gx: Installed | None = None
    gy: PolicyRule | None = None
    bearer: Bearer | None = None
    target: Target = Target()
    former: tuple[Former, ...] = ()
    """Oldest first: usage of a version that was defined otherwise may still come."""
    seen_ipv4: Seen = Seen()
    seen_ipv6: Seen = Seen()
    moved_tx: int = 0
    moved_rx: int = 0
    """All octets of all versions, whoever counts them; a counter, as are those that were not let through."""
    dropped_tx: int = 0
    dropped_rx: int = 0


class RuleInstall(Struct, frozen=True, gc=False):
    """A rule to install: dynamic with its definition, or static by id only."""

    id: str
    rule: PolicyRule | None = None
    lifetime: Lifetime = Lifetime()


def target_of(rule: PolicyRule) -> Target:
    """Return what the traffic of a rule counts on."""
    by_ocs = rule.tracking in {TrackingType.ONLY_OCS, TrackingType.OCS_AND_PCRF}
    by_pcrf = rule.tracking in {TrackingType.ONLY_PCRF, TrackingType.OCS_AND_PCRF}
    return Target(
        credit_key(rule.rating_group, rule.service_identifier) if by_ocs else "",
        rule.monitoring_key if by_pcrf else "",
    )


def defined(rule: Rule, definition: PolicyRule) -> Rule:
    """Return a rule whose versions from the next one on count on what a definition says."""
    target = target_of(definition)
    if rule.target == target:
        return rule
    if rule.version == rule.base:
        return structs.replace(rule, target=target)
    former = (*rule.former, Former(rule.version, rule.target))
    return structs.replace(rule, target=target, former=former[-FORMER_TARGETS:])


def target_at(rule: Rule, version: int) -> Target:
    """Return what the traffic of a version counts on."""
    return next((former.target for former in rule.former if version <= former.version), rule.target)


def in_force(rule: Rule) -> bool:
    """Whether a Gx rule is installed and active."""
    return rule.gx is not None and not rule.gx.scheduled


def awaits_bearer(rule: Rule) -> bool:
    """Whether a Gx rule has no flows before the bearer is there that it asked for."""
    return rule.gx is not None and rule.gx.awaits_bearer


def is_over(lifetime: Lifetime, now_ms: int) -> bool:
    """Whether the deactivation time has come."""
    return lifetime.deactivation_ms != 0 and lifetime.deactivation_ms <= now_ms


def is_ahead(lifetime: Lifetime, now_ms: int) -> bool:
    """Whether the activation time is still to come."""
    return now_ms < lifetime.activation_ms


def definition(rule_id: str, rule: Rule, catalogue: Catalogue, *, gy: bool = False) -> PolicyRule | None:
    """Return the definition in use for a rule of a session; None if it is static and the catalogue lost it."""
    if gy:
        return rule.gy
    if rule.gx is not None and rule.gx.rule is not None:
        return rule.gx.rule
    return catalogue.get(rule_id)
