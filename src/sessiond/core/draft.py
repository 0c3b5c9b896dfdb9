"""Draft: a session while something is being decided about it.

Every change goes through `change`, `put` or `remove`; what the session is now and the criteria that lead there are
always the same thing: `apply(start, draft.criteria()) == draft.session()`.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from sessiond.core import lifecycle
from sessiond.core.access import Access
from sessiond.core.access import Quota as Allowance
from sessiond.core.charging import ChargingCredit
from sessiond.core.credit import COUNTERS
from sessiond.core.effects import News, Saved
from sessiond.core.keys import SessionSecret
from sessiond.core.lifecycle import Event
from sessiond.core.monitors import Monitor
from sessiond.core.rules import Rule
from sessiond.core.session import (
    Context,
    Gateway,
    Head,
    Identity,
    Limits,
    Options,
    Record,
    Remembered,
    Session,
    Stream,
)
from sessiond.core.traffic import Executions, Traffic
from sessiond.core.update import (
    SINGLE_PARTS,
    Change,
    Operation,
    Path,
    Put,
    Remove,
    UpdateCriteria,
    applied,
    combined,
    difference,
)


class Draft:
    """What a session would be, why, and what the world is to be told."""

    def __init__(self, start: Session) -> None:
        self._start = start
        self._now: dict[str, Any] = {}
        self._operations: dict[Path, Operation] = {}
        self.news: list[News] = []

    @property
    def key(self) -> str:
        """The key of the session."""
        return self._start.key

    @property
    def type(self) -> str:
        """The type of the session."""
        return self._start.type

    @property
    def head(self) -> Head:
        """The life of the session, as it is now."""
        head: Head = self._part("head")
        return head

    @property
    def context(self) -> Context:
        """Who and where; a gateway session always has it."""
        context: Context = self._part("context")
        return context

    @property
    def gateway(self) -> Gateway:
        """What only gateway sessions have, as it is now."""
        gateway: Gateway = self._part("gateway")
        return gateway

    @property
    def is_gateway(self) -> bool:
        """Whether this is a gateway session, which has a context, and rules and quotas."""
        return self._start.gateway is not None

    @property
    def identity(self) -> Identity | None:
        """Who a session is that is no gateway's, as it is now."""
        identity: Identity | None = self._part("identity")
        return identity

    @property
    def stream(self) -> Stream | None:
        """What only stream sessions have, as it is now."""
        stream: Stream | None = self._part("stream")
        return stream

    @property
    def is_native(self) -> bool:
        """Whether this is a native session, which has limits, a record, options and access."""
        return self._start.record is not None

    @property
    def limits(self) -> Limits:
        """When time ends a native session, as it is now."""
        limits: Limits = self._part("limits")
        return limits

    @property
    def record(self) -> Record:
        """What every use of a native session moves, as it is now."""
        record: Record = self._part("record")
        return record

    @property
    def options(self) -> Options:
        """How a native session is run, as it is now."""
        options: Options = self._part("options")
        return options

    @property
    def access(self) -> Access:
        """What a native session may do and reach, as it is now."""
        access: Access = self._part("access")
        return access

    @property
    def traffic(self) -> Traffic | None:
        """What went through a native session, as it is now."""
        traffic: Traffic | None = self._part("traffic")
        return traffic

    @property
    def executions(self) -> Executions | None:
        """What was asked of a native session, as it is now."""
        executions: Executions | None = self._part("executions")
        return executions

    @property
    def secret(self) -> SessionSecret | None:
        """The key of a native session, as it is now."""
        secret: SessionSecret | None = self._part("secret")
        return secret

    @property
    def quotas(self) -> Mapping[str, Allowance]:
        """How much a native session may use, by resource, as it is now."""
        quotas: Mapping[str, Allowance] = self._part("quotas")
        return quotas

    @property
    def requests(self) -> Mapping[str, Remembered]:
        """The requests that changed the session lately, by id, as they are now."""
        requests: Mapping[str, Remembered] = self._part("requests")
        return requests

    @property
    def changed(self) -> bool:
        """Whether anything has been changed so far."""
        return bool(self._operations)

    @property
    def details(self) -> Mapping[str, Any]:
        """What the owner says about the session, by key, as it is now."""
        details: Mapping[str, Any] = self._part("details")
        return details

    @property
    def associates(self) -> Mapping[str, str]:
        """The keys of sessions tied to this one, by running number, as they are now."""
        associates: Mapping[str, str] = self._part("associates")
        return associates

    @property
    def rules(self) -> Mapping[str, Rule]:
        """The rules by id, as they are now."""
        rules: Mapping[str, Rule] = self._part("rules")
        return rules

    @property
    def credits(self) -> Mapping[str, ChargingCredit]:
        """The charging credits by key, as they are now."""
        credits_: Mapping[str, ChargingCredit] = self._part("credits")
        return credits_

    @property
    def monitors(self) -> Mapping[str, Monitor]:
        """The usage monitors by monitoring key, as they are now."""
        monitors: Mapping[str, Monitor] = self._part("monitors")
        return monitors

    @property
    def effects(self) -> Mapping[str, Saved]:
        """The effects that are still to be acknowledged."""
        effects: Mapping[str, Saved] = self._part("effects")
        return effects

    def change(self, part: str, key: str, change: Change) -> None:
        """Add to counters and set fields of a part; an empty change is no change."""
        if change:
            self._do(part, key, change)

    def become(self, part: str, key: str, value: Any) -> None:
        """Turn a quota that is there into another value of it; what differs is what changes."""
        self.turn(part, key, difference(self._part(part)[key], value, COUNTERS), value)

    def turn(self, part: str, key: str, change: Change, value: Any) -> None:
        """Change a keyed part that is there, by one who has worked out what comes of it; no change is none."""
        if change:
            self._keyed(part)[key] = value
            self._note((part, key), change)

    def set(self, part: str, key: str = "", **fields: Any) -> None:
        """Set fields of a part."""
        self._do(part, key, Change(set=fields))

    def put(self, part: str, key: str, value: Any) -> None:
        """Make a part this value as a whole."""
        self._do(part, key, Put(value))

    def remove(self, part: str, key: str) -> None:
        """Take a keyed part away."""
        self._do(part, key, Remove())

    def step(self, event: Event, now_ms: int, reason: str = "") -> None:
        """Go on in the lifecycle; the moment is noted, and the reason if there is one."""
        state = lifecycle.step(self.head.state, event)
        fields: dict[str, Any] = {"state": state}
        if (moment := _MOMENTS.get(state)) and not getattr(self.head, moment):
            fields[moment] = now_ms
        if reason:
            fields["reason"] = reason
        self.set("head", **fields)

    def save(self, *effects: Saved) -> None:
        """Add effects that must not be lost."""
        for effect in effects:
            number = self.gateway.effects_made + 1
            self.change("gateway", "", Change(add={"effects_made": 1}))
            self.put("effects", f"{number:06d}", effect)

    def tell(self, *news: News) -> None:
        """Add news."""
        self.news.extend(news)

    def criteria(self) -> UpdateCriteria:
        """Return the whole change so far."""
        return UpdateCriteria(dict(self._operations))

    def session(self) -> Session:
        """Return the session as it would be now."""
        return msgspec.structs.replace(self._start, **self._now) if self._now else self._start

    def _part(self, part: str) -> Any:
        return self._now[part] if part in self._now else getattr(self._start, part)

    def _do(self, part: str, key: str, operation: Operation) -> None:
        if part in SINGLE_PARTS:
            self._now[part] = applied(self._part(part), operation)
        else:
            self._do_keyed(part, key, operation)
        self._note((part, key), operation)

    def _do_keyed(self, part: str, key: str, operation: Operation) -> None:
        values = self._keyed(part)
        value = applied(values.get(key), operation)
        if value is None:
            values.pop(key, None)
        else:
            values[key] = value

    def _keyed(self, part: str) -> dict[str, Any]:
        """Return the values of a keyed part, to be changed."""
        values: dict[str, Any] | None = self._now.get(part)
        if values is None:
            values = self._now[part] = dict(getattr(self._start, part))
        return values

    def _note(self, path: Path, operation: Operation) -> None:
        """Add to the criteria what was done."""
        known = self._operations.get(path)
        self._operations[path] = combined(known, operation) if known is not None else operation


_MOMENTS = {
    lifecycle.State.ACTIVE: "activated_at_ms",
    lifecycle.State.CLOSING: "closing_at_ms",
    lifecycle.State.CLOSED: "closed_at_ms",
}
