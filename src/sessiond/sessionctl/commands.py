"""What the commands do: each returns the work that a client is to do."""

import json
import sys
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from sessiond.client import Client, Event, Session
from sessiond.client.errors import NotFound, SessiondError
from sessiond.client.values import SessionFields
from sessiond.pb.sessiond.v1 import admin_service_pb2, session_pb2, session_service_pb2
from sessiond.sessionctl.main import Mistake
from sessiond.sessionctl.output import as_data, coloured, print_facts, print_json, print_line, print_table, printable
from sessiond.sessionctl.running import Work, told
from sessiond.sessionctl.sessions import COLUMNS, WIDE, facts, moment, now_s, octets, reason_of, row, state_of, who


def list_sessions(where: str, order: str, limit: int | None, output: str) -> Work:
    """Return the work of `list`."""

    async def work(client: Client) -> None:
        await _print(client.list(where, order_by=order, limit=limit), output)

    return work


def get(key: str, output: str) -> Work:
    """Return the work of `get`."""

    async def work(client: Client) -> None:
        _print_one(await client.get(key, peek=True), output)

    return work


def create(kind: str, fields: SessionFields, output: str, *, reuse_active: bool, leave_inactive: bool) -> Work:
    """Return the work of `create`."""

    async def work(client: Client) -> None:
        session = await client.create(kind, reuse_active=reuse_active, leave_inactive=leave_inactive, **fields)
        _print_one(session, output)

    return work


def update(key: str, fields: SessionFields, unset: Iterable[str], etag: str, output: str) -> Work:
    """Return the work of `update`."""
    removed = list(unset)
    if not (fields or removed):
        raise Mistake("nothing to change: say what, as in --set lap=12")

    async def work(client: Client) -> None:
        _print_one(await client.update(key, etag=etag, remove_details=removed, **fields), output)

    return work


def end(keys: list[str], where: str, message: str, output: str, *, yes: bool) -> Work:
    """Return the work of `end`: one after the other; one that fails keeps none of the others."""

    async def work(client: Client) -> int:
        meant = client.list(where, fields=["key", "state"])
        chosen = keys or [one.key async for one in meant if state_of(one) != "CLOSED"]
        if where and not yes and chosen:
            _ask(f"end {len(chosen)} sessions?")
        ended: list[Session] = []
        statuses = [0]
        for key in chosen:
            try:
                ended.append(await client.end(key, message=message))
            except SessiondError as error:
                if where and isinstance(error, NotFound):
                    continue  # it has gone by itself meanwhile
                statuses.append(told(error))
        await _print(_each(ended), output)
        return max(statuses)

    return work


def watch(where: str, kinds: list[str], since: str, output: str, *, snapshot: bool, history: bool) -> Work:
    """Return the work of `watch`."""
    if unknown := [kind for kind in kinds if kind not in _kinds()]:
        raise Mistake(f"there is no kind {unknown[0]}; there are {', '.join(sorted(_kinds()))}")

    async def work(client: Client) -> None:
        async with client.watch(where, kinds=kinds, snapshot=snapshot, history=history, token=since) as events:
            async for event in events:
                print_event(event, output)

    return work


def stats(where: str, output: str) -> Work:
    """Return the work of `stats`."""

    async def work(client: Client) -> None:
        counted = await client.statistics(where)
        if output in {"json", "jsonl"}:
            (print_json if output == "json" else print_line)(as_data(counted))
            return
        print_facts(statistics_facts(counted))

    return work


def status(output: str) -> Work:
    """Return the work of `status`."""

    async def work(client: Client) -> None:
        answer = await client.status()
        if output in {"json", "jsonl"}:
            (print_json if output == "json" else print_line)(as_data(answer))
            return
        print_facts(_status_facts(answer))

    return work


def statistics_facts(counted: session_service_pb2.GetStatisticsResponse) -> list[tuple[str, str]]:
    """Return counts as names and values; what there is none of is left out."""
    states = {session_pb2.SessionState.Name(one.state): one.count for one in counted.states if one.count}
    return [
        ("sessions", str(counted.total)),
        *((name.removeprefix("SESSION_STATE_"), str(count)) for name, count in states.items()),
        *((f"type {name}", str(count)) for name, count in sorted(counted.types.items())),
        ("sent", octets(counted.traffic.bytes_sent)),
        ("received", octets(counted.traffic.bytes_received)),
        ("look-ups from memory", str(counted.lookup_hits)),
        ("look-ups from the store", str(counted.lookup_misses)),
    ]


def fields_of(given: Mapping[str, str | None], ttl: str, details: str, entries: Iterable[str]) -> SessionFields:
    """Return what was typed of a session, without what was not; raise Mistake."""
    fields: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if ttl:
        from sessiond.core.comparisons import span_ms  # noqa: PLC0415 - it brings the whole core with it

        ttl_ms = span_ms(ttl)
        if ttl_ms is None:
            raise Mistake(f"{ttl} is no duration, such as 90s, 15m or 1.5h")
        fields["ttl_s"] = ttl_ms / 1000
    if said := {**_object(details), **dict(map(_entry, entries))}:
        fields["details"] = said
    return fields  # type: ignore[return-value]  # the names are those of the options


def print_event(event: Event, output: str) -> None:
    """Print an event on a line of its own, at once."""
    if output in {"json", "jsonl"}:
        said: dict[str, Any] = {"kind": event.kind, "token": event.token}
        if event.session.key:
            said |= {"event_time": moment_ms(event.time_ms), "changed_fields": list(event.changed)}
            said["session"] = as_data(event.session)
        print_line({name: value for name, value in said.items() if value})
        return
    what = " ".join(printable(word) for word in (event.session.key, event.session.type, who(event.session)) if word)
    changed = f" {', '.join(event.changed)}" if event.changed else ""
    reason = f" {reason_of(event.session)}" if event.kind == "CLOSED" else ""
    time = f"{moment_ms(event.time_ms)} " if event.time_ms else ""
    print(f"{time}{coloured(event.kind.ljust(11))} {what}{changed}{reason}".rstrip(), flush=True)


def moment_ms(time_ms: int) -> str:
    """Return unix milliseconds as RFC 3339 has them; nothing for 0."""
    time = Timestamp()
    time.FromMilliseconds(time_ms)
    return moment(time)


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text) if text else {}
    except ValueError as error:
        raise Mistake(f"--details is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise Mistake('--details is no JSON object, such as {"lap": 12}')
    return value


def _entry(text: str) -> tuple[str, Any]:
    """Return name and value of a detail; a value that is no JSON is a text."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise Mistake(f"{text!r} is no detail: NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


async def _print(sessions: AsyncIterator[Session], output: str) -> None:
    """Print sessions, in JSON lines as they come, else when all have come."""
    if output == "jsonl":
        async for session in sessions:
            print_line(as_data(session))
        return
    everyone = [session async for session in sessions]
    if output == "json":
        print_json([as_data(session) for session in everyone])
        return
    columns = WIDE if output == "wide" else COLUMNS
    print_table([name for name, _ in columns], [row(session, columns, now_s()) for session in everyone])


def _print_one(session: Session, output: str) -> None:
    if output == "json":
        print_json(as_data(session))
    elif output == "jsonl":
        print_line(as_data(session))
    else:
        print_facts(facts(session))


async def _each(sessions: Iterable[Session]) -> AsyncIterator[Session]:
    for session in sessions:
        yield session


def _ask(question: str) -> None:
    """Ask before something that cannot be undone; without a terminal, somebody must have said yes already."""
    if not sys.stdin.isatty():
        raise Mistake(f"{question} say --yes if nobody is there to be asked")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise Mistake("nothing was ended")


def _kinds() -> set[str]:
    names = session_service_pb2.SessionEventKind.keys()
    return {name.removeprefix("SESSION_EVENT_KIND_") for name in names} - {"UNSPECIFIED"}


def _status_facts(answer: admin_service_pb2.GetStatusResponse) -> Iterator[tuple[str, str]]:
    """Yield what an operator wants to know of the daemon at a glance."""
    yield "version", answer.version
    yield "started", moment(answer.start_time)
    yield "ready", "yes" if answer.ready else "no"
    yield "new sessions", "refused" if answer.draining else "welcome"
    store = answer.store
    yield (
        "store",
        " ".join([store.kind, store.url, "connected" if store.connected else "AWAY", store.last_error]).strip(),
    )
    for count in answer.states:
        if count.count:
            yield session_pb2.SessionState.Name(count.state).removeprefix("SESSION_STATE_"), str(count.count)
    for peer in answer.peers:
        state = admin_service_pb2.PeerState.Name(peer.state).removeprefix("PEER_STATE_")
        if state != "ABSENT":
            yield peer.name, " ".join(filter(None, (state, peer.address, peer.last_error)))
    yield "peers must still be told", str(answer.pending_requests)
    yield "watchers", str(answer.watchers)
