"""What must be true of the store, the data plane and the policy side; each check yields what is not."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from sessiond.app.reporting import in_flight
from sessiond.core import charging
from sessiond.core.lifecycle import State
from sessiond.core.rules import Rule, in_force
from sessiond.core.session import Session
from sessiond.pb.magma.lte.session_proxy_pb2 import SessionTerminateRequest
from sessiond.simulator.accounts import Books, Meter
from sessiond.simulator.switch import Passed, SwitchState
from sessiond.store import codec
from tests.crash.actors import Owner, Phone
from tests.crash.world import World
from tests.store.servers import Server

Sessions: TypeAlias = Mapping[str, Session]
Flow: TypeAlias = tuple[str, str, str]
"""Subscriber, address and rule."""
OURS = {b"revision", b"operations", b"number"}
"""The fields of a hash that belong to the store."""


class Shelf:
    """All that a server keeps, as it is there at this moment."""

    def __init__(self, server: Server) -> None:
        with server.client() as client:
            client.connection_pool.connection_kwargs["decode_responses"] = False
            names = list(client.scan_iter(count=1000))
            self.sessions = dict(_decoded(client, [name for name in names if _is(name, b"session:")]))
            self.scopes = _members(client, [name for name in names if _is(name, b"session-scope:")])
            self.indexes = _members(client, [name for name in names if _is(name, b"session-index:")])

    def torn(self) -> Iterator[str]:
        """Yield what is there only by half."""
        keys = sorted(self.sessions)
        if sorted(self.scopes) != keys:
            yield f"scopes list {sorted(self.scopes)}, there are {keys}"
        if sorted(self.indexes) != keys:
            yield f"the index lists {sorted(self.indexes)}, there are {keys}"

    def gateway(self) -> dict[str, Session]:
        """Return the gateway sessions."""
        return {key: session for key, session in self.sessions.items() if session.gateway is not None}


def phone(phone: Phone, shelf: Shelf, *, settled: bool) -> Iterator[str]:
    """Hold the sessions of a device against what it was told."""
    mine = {key: one for key, one in shelf.gateway().items() if one.scope == phone.subscriber}
    for key in phone.gone & mine.keys():
        if mine[key].head.state not in {State.CLOSING, State.CLOSED}:
            yield f"{key}: its end was acknowledged, and it is {mine[key].head.state}"
    if phone.session and not phone.ending:
        if phone.session in mine:
            yield from _as_told(phone, mine[phone.session])
        else:
            yield f"{phone.session}: was acknowledged, and is not there"
    if settled:
        expected = {phone.session} - {""}
        states = {key: one.head.state for key, one in mine.items() if key in phone.gone or not _is_unheard(one)}
        if states.keys() != expected:
            yield f"{phone.subscriber}: there should be {expected}, there are {states}"


def _is_unheard(session: Session) -> bool:
    """Whether nobody but the policy side has ever heard of it: such a session is given up after a while."""
    return session.head.state is not State.ACTIVE and session.head.activated_at_ms == 0


def _as_told(phone: Phone, session: Session) -> Iterator[str]:
    context = session.context
    if session.head.state is not State.ACTIVE or context is None:
        yield f"{session.key}: was acknowledged, and is {session.head.state} {session.head.reason}"
        return
    teids = (context.teids.enb, context.teids.agw)
    if teids not in phone.tunnels.possible:
        yield f"{session.key}: has tunnels {teids}, told {phone.tunnels}"
    rules = frozenset(rule for rule, known in session.rules.items() if in_force(known))
    possible = [phone.plan_rules | extras for extras in map(_set, phone.extras.possible)]
    if rules not in (possible if any(teids) else [frozenset()]):
        yield f"{session.key}: has rules {set(rules)}, told {phone.extras}"


def owner(owner: Owner, shelf: Shelf) -> Iterator[str]:
    """Hold stream sessions against what their owner was told."""
    present = {
        key: one
        for key, one in shelf.sessions.items()
        if one.identity is not None and one.identity.data_source == owner.data_source
    }
    missing = owner.streams.keys() - present.keys()
    if missing:
        yield f"{owner.data_source}: {missing} were acknowledged, and are not there"
    if len(present) > len(owner.streams) + owner.unheard:
        yield f"{owner.data_source}: there are {len(present)}, told {len(owner.streams)} and {owner.unheard} perhaps"
    numbers = [one.identity.number for one in present.values() if one.identity is not None]
    if len(set(numbers)) != len(numbers):
        yield f"{owner.data_source}: numbers come twice: {sorted(numbers)}"
    for key, one in present.items():
        words = one.details.get("a"), one.details.get("b")
        told = owner.streams.get(key)
        if words[0] != words[1] or (told is not None and words[0] not in told.word.possible):
            yield f"{key}: has details {words}, told {told}"
        if told is not None and (one.head.state is State.CLOSED) not in told.ended.possible:
            yield f"{key}: is {one.head.state}, told {told}"


def unrest(shelf: Shelf, but: Collection[State] = ()) -> Iterator[str]:
    """Yield what is still under way, but for sessions in some states."""
    for key, session in shelf.gateway().items():
        for effect in session.effects.values():
            yield f"{key}: has still to tell {effect}"
        if numbers := in_flight(session):
            yield f"{key}: has reports in flight: {numbers}"
        if session.head.state not in {State.ACTIVE, *but}:
            yield f"{key}: is {session.head.state} {session.head.reason}"


def flows(shelf: Shelf, state: SwitchState) -> Iterator[str]:
    """Hold the flows that are up against those that the sessions want.

    A switch that began anew has versions counted up once for every start of the daemon, and pipelined, which has been
    set up by then, does not hear of that: what it counts under the older version is still taken.
    """
    wanted = {flow: version for session in shelf.gateway().values() for flow, version in _wanted(session)}
    up = {(flow.subscriber, flow.address, flow.rule): flow.version for flow in state.flows if flow.up}
    for flow in up.keys() - wanted.keys():
        yield f"{flow}: is up, and no session wants it"
    for flow in wanted.keys() - up.keys():
        yield f"{flow}: is wanted, and not up"
    for flow in wanted.keys() & up.keys():
        if up[flow] != wanted[flow] and not (state.restarted and up[flow] < wanted[flow]):
            yield f"{flow}: is up in version {up[flow]}, and wanted in {wanted[flow]}"


def _wanted(session: Session) -> Iterator[tuple[Flow, int]]:
    context = session.context
    if session.head.state is not State.ACTIVE or context is None:
        return
    for name, rule in session.rules.items():
        if rule.gy is not None or (in_force(rule) and not _held(session, rule)):
            yield (session.scope, context.ue_ipv4, name), rule.version


def _held(session: Session, rule: Rule) -> bool:
    charge = session.credits.get(rule.target.credit)
    return charge is not None and charging.held(charge)


def ends(world: World, present: Sessions) -> Iterator[str]:
    """Hold what the policy side heard of ends against the sessions that are there: each end once, and the same."""
    for key, books in world.policy.sessions.items():
        heard = world.policy.ends.get(key, [])
        if books.terminated == (key in present) and not (key in present and _is_unheard(present[key])):
            yield f"{key}: the policy side thinks it is {'over' if books.terminated else 'there'}"
        if len({_said(end) for end in heard}) > 1:
            yield f"{key}: its end was told in different words: {heard}"


def balance(world: World) -> Iterator[str]:
    """Hold what was reported against what passed, for each address and account."""
    state = world.switch.state()
    by_device: dict[tuple[str, str], list[Books]] = {}
    for books in world.policy.sessions.values():
        by_device.setdefault((books.subscriber, books.address), []).append(books)
    passed: dict[tuple[str, str], list[Passed]] = {}
    for item in state.ledger:
        passed.setdefault((item.subscriber, item.address), []).append(item)
    for device in by_device.keys() | passed.keys():
        yield from _of_device(device, by_device.get(device, []), passed.get(device, []))


def _of_device(device: tuple[str, str], books: list[Books], passed: list[Passed]) -> Iterator[str]:
    monitored = {key for one in books for key in one.session_monitors}
    accounts = [
        ("OCS", {item.target.credit for item in passed} | {key for one in books for key in one.credits}),
        ("PCRF", {item.target.monitor for item in passed} | {key for one in books for key in one.monitors}),
    ]
    for kind, keys in accounts:
        for key in keys - {""}:
            meters = [meter for one in books if (meter := _meters(one, kind).get(key)) is not None]
            items = [item for item in passed if _counts(item, kind, key) or (kind == "PCRF" and key in monitored)]
            for leg in ("tx", "rx"):
                generated = sum(getattr(item, leg) for item in items)
                doubtful = sum(getattr(item, f"doubtful_{leg}") for item in items)
                reported = sum(getattr(meter, f"reported_{leg}") for meter in meters)
                if not generated <= reported <= generated + doubtful:
                    sessions = [one.session_id for one in books]
                    text = f"{generated} {leg} passed ({doubtful} in doubt), {reported} were reported"
                    yield f"{device} {kind} {key} {sessions}: {text}"


def _counts(item: Passed, kind: str, key: str) -> bool:
    return key == (item.target.credit if kind == "OCS" else item.target.monitor)


def _meters(books: Books, kind: str) -> dict[str, Meter]:
    return books.credits if kind == "OCS" else books.monitors


def _said(end: SessionTerminateRequest) -> tuple[object, ...]:
    """Return what an end says, whatever the order."""
    usage = [one.SerializeToString(deterministic=True) for one in (*end.credit_usages, *end.monitor_usages)]
    return end.request_number, end.common_context.SerializeToString(deterministic=True), *sorted(usage)


def _set(value: object) -> frozenset[str]:
    assert isinstance(value, frozenset)
    return value


def _is(name: bytes, prefix: bytes) -> bool:
    return name.startswith(prefix)


def _decoded(client: Any, names: Iterable[bytes]) -> Iterator[tuple[str, Session]]:
    for name in names:
        fields = {field: value for field, value in client.hgetall(name).items() if field not in OURS}
        if fields:  # it may have gone since it was listed
            session = codec.decode(fields)
            yield session.key, session


def _members(client: Any, names: Iterable[bytes]) -> list[str]:
    return [member.decode() for name in names for member in client.zrange(name, 0, -1)]
