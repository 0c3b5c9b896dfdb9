"""simulation.yml as a value: where the peers listen, which rules and plans there are, who attaches, what they send.

What each key is for is said to the user in `config/simulation.yml`.
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
import yaml
from msgspec import Meta, Struct

Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Positive: TypeAlias = Annotated[int, Meta(ge=1, le=2**63 - 1)]
Code: TypeAlias = Annotated[int, Meta(ge=0, le=9999)]
ADDRESS, SUBSCRIBER = r"^[^:\s]+:\d{1,5}$", r"^IMSI\d{5,15}$"
WORDS = {ADDRESS: "host:port", SUBSCRIBER: "IMSI and 5 to 15 digits"}
Address: TypeAlias = Annotated[str, Meta(pattern=ADDRESS)]


class Part(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the file."""


class Listen(Part, frozen=True):
    """Where each peer listens; the names are those of `peers:` in sessiond.yml. Port 0 is any free one."""

    session_proxy: Address = "127.0.0.1:0"
    pipelined: Address = "127.0.0.1:0"
    spgw: Address = "127.0.0.1:0"
    mobilityd: Address = "127.0.0.1:0"
    mme: Address = "127.0.0.1:0"
    directoryd: Address = "127.0.0.1:0"
    eventd: Address = "127.0.0.1:0"
    aaa: Address = "127.0.0.1:0"


class Rate(Part, frozen=True):
    """How much traffic a rule carries for one subscriber."""

    up_bytes_per_s: Count = 0
    down_bytes_per_s: Count = 0


class DataPlane(Part, frozen=True):
    """How pipelined reports, and what of it outlives its process."""

    report_interval_ms: Positive = 2000
    setup_interval_ms: Positive = 3000
    report_deadline_ms: Positive = 10_000
    state_file: str | None = None
    switch_restarts: bool = False
    mobilityd: Address | None = None
    other_rules: Rate = Rate()


class Access(Part, frozen=True):
    """How subscribers attach."""

    apn: str = "magma.ipv4"
    first_address: str = "192.168.128.11"
    attaches_at_once: Positive = 10
    attach_limit_s: Positive = 60


class Events(Part, frozen=True):
    """What eventd keeps."""

    keep: Positive = 1000


class Rule(Part, frozen=True):
    """A rule: what it counts on, the QoS class it asks for, the traffic under it."""

    id: str
    priority: Count = 100
    rating_group: Count | None = None
    service_identifier: Count | None = None
    monitoring_key: str | None = None
    qci: Count | None = None
    traffic: Rate = Rate()


class WhenDry(Part, frozen=True):
    """What happens when an account runs dry: a final unit, or a refusal with a result code."""

    action: Literal["terminate", "redirect", "restrict", "refuse"] = "terminate"
    url: str = ""
    rules: tuple[str, ...] = ()
    result_code: Code = 4012


class Quota(Part, frozen=True):
    """What the OCS grants for one rating group, and how much there is in all."""

    rating_group: Count
    service_identifier: Count | None = None
    limit: Literal["finite", "infinite_metered", "infinite_unmetered"] = "finite"
    grant_bytes: Count = 0
    total_bytes: Count | None = None
    validity_s: Count = 0
    when_dry: WhenDry = WhenDry()
    failure_code: Code = 0


class Monitor(Part, frozen=True):
    """What the PCRF grants under one monitoring key, and how much there is in all."""

    key: str
    grant_bytes: Positive
    level: Literal["rule", "session"] = "rule"
    total_bytes: Count | None = None


class Plan(Part, frozen=True):
    """What a subscriber gets."""

    name: str
    static_rules: tuple[str, ...] = ()
    dynamic_rules: tuple[str, ...] = ()
    quotas: tuple[Quota, ...] = ()
    monitors: tuple[Monitor, ...] = ()
    failure_code: Code = 0


class Group(Part, frozen=True):
    """So many subscribers of one plan."""

    plan: str
    count: Count


class Subscribers(Part, frozen=True):
    """Who attaches, in this order, with numbers that count up from the first; and the plan of everyone else."""

    first: Annotated[str, Meta(pattern=SUBSCRIBER)] = "IMSI001010000000001"
    groups: tuple[Group, ...] = ()
    others: str | None = None


class Simulation(Part, frozen=True):
    """Every key of simulation.yml."""

    sessiond: Address = "127.0.0.1:50065"
    seed: int = 1
    listen: Listen = Listen()
    data_plane: DataPlane = DataPlane()
    access: Access = Access()
    events: Events = Events()
    rules: tuple[Rule, ...] = ()
    plans: tuple[Plan, ...] = ()
    subscribers: Subscribers = Subscribers()


class ConfigError(Exception):
    """The file cannot be used; the text says where in it and why."""


def load(path: Path) -> Simulation:
    """Read the file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return parse(text, str(path))


def parse(text: str, name: str) -> Simulation:
    """Take the text of a file."""
    try:
        content = yaml.safe_load(text)
        simulation = msgspec.convert({} if content is None else content, Simulation)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{name}:{line}: not YAML: {error.problem}") from error
    except msgspec.ValidationError as error:
        raise ConfigError(_located(str(error), text, name)) from error
    if problems := list(_contradictions(simulation)):
        raise ConfigError("\n".join(f"{name}: {problem}" for problem in problems))
    return simulation


def dump(simulation: Simulation) -> str:
    """Return the text of a file that says this."""
    text: str = yaml.safe_dump(msgspec.to_builtins(simulation), sort_keys=False)
    return text


def members(subscribers: Subscribers) -> list[tuple[str, str]]:
    """Return (subscriber, plan) of all who attach."""
    plans = [group.plan for group in subscribers.groups for _ in range(group.count)]
    return [(_numbered(subscribers.first, index), plan) for index, plan in enumerate(plans)]


class Plans:
    """Who has which plan."""

    def __init__(self, simulation: Simulation) -> None:
        self._plans = {plan.name: plan for plan in simulation.plans}
        self._members = dict(members(simulation.subscribers))
        self._others = simulation.subscribers.others or ""

    def named(self, name: str) -> Plan | None:
        """Return the plan of this name."""
        return self._plans.get(name)

    def of(self, subscriber: str) -> Plan | None:
        """Return the plan of a subscriber; None if there is none for it."""
        return self._plans.get(self._members.get(subscriber, self._others))


def scaled(simulation: Simulation, count: int) -> Simulation:
    """Return the same with so many subscribers, in the same proportion of plans."""
    groups = simulation.subscribers.groups
    whole = sum(group.count for group in groups)
    if not whole:
        raise ConfigError("subscribers.groups: there is nobody to multiply")
    edges = [sum(group.count for group in groups[:index]) * count // whole for index in range(len(groups) + 1)]
    resized = tuple(
        Group(plan=group.plan, count=until - since)
        for group, (since, until) in zip(groups, pairwise(edges), strict=True)
    )
    return msgspec.structs.replace(
        simulation, subscribers=msgspec.structs.replace(simulation.subscribers, groups=resized)
    )


def _numbered(first: str, index: int) -> str:
    digits = first.removeprefix("IMSI")
    return f"IMSI{int(digits) + index:0{len(digits)}d}"


def _contradictions(simulation: Simulation) -> Iterator[str]:
    """Yield what cannot be true together."""
    rules, plans = {rule.id for rule in simulation.rules}, {plan.name for plan in simulation.plans}
    yield from _twice("rules", [rule.id for rule in simulation.rules])
    yield from _twice("plans", [plan.name for plan in simulation.plans])
    wanted = [(f"plans: {plan.name}", name) for plan in simulation.plans for name in _rules_of(plan)]
    yield from (f"{where}: there is no rule {name!r}" for where, name in wanted if name not in rules)
    names = [group.plan for group in simulation.subscribers.groups]
    others = simulation.subscribers.others
    for name in [*names, *([others] if others else [])]:
        if name not in plans:
            yield f"subscribers: there is no plan {name!r}"
    for plan in simulation.plans:
        yield from (f"plans: {plan.name}: {problem}" for quota in plan.quotas for problem in _quota_problems(quota))


def _twice(where: str, names: list[str]) -> Iterator[str]:
    yield from (f"{where}: {name!r} is there twice" for name in sorted({n for n in names if names.count(n) > 1}))


def _rules_of(plan: Plan) -> tuple[str, ...]:
    restricting = (rule for quota in plan.quotas for rule in quota.when_dry.rules)
    return (*plan.static_rules, *plan.dynamic_rules, *restricting)


def _quota_problems(quota: Quota) -> Iterator[str]:
    where = f"rating group {quota.rating_group}"
    if quota.limit == "finite" and not quota.grant_bytes and not quota.failure_code:
        yield f"{where}: a finite quota needs grant_bytes"
    if quota.when_dry.action == "redirect" and not quota.when_dry.url:
        yield f"{where}: when_dry: redirect needs a url"
    if quota.when_dry.action == "restrict" and not quota.when_dry.rules:
        yield f"{where}: when_dry: restrict needs rules"


_STEP = re.compile(r"\.(?P<key>[^.\[]+)|\[(?P<index>\d+)\]")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<key>.*)`")


def _located(problem: str, text: str, name: str) -> str:
    """Return what is wrong with the line and the path at which it is."""
    said, _, where = problem.partition(" - at `$")
    path: list[str | int] = [step["key"] or int(step["index"]) for step in _STEP.finditer(where.rstrip("`"))]
    for pattern, words in WORDS.items():
        said = said.replace(f"`str` matching regex {pattern!r}", words)
    if unknown := _UNKNOWN.fullmatch(said):
        path.append(unknown["key"])
        said = "there is no such key"
    return f"{name}:{_line(yaml.compose(text), path)}: {_as_text(path)}: {said}"


def _as_text(path: list[str | int]) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.lstrip(".") or "the file"


def _line(node: Any, path: list[str | int]) -> int:
    """Return the line of what the path leads to, as far as it leads."""
    line = int(node.start_mark.line) + 1 if node else 1
    for step in path:
        if isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            node = node.value[step]
            line = int(node.start_mark.line) + 1
        elif isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == step]
            if not found:
                break
            line, node = int(found[-1][0].start_mark.line) + 1, found[-1][1]
    return line
