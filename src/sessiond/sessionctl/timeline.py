"""The story of a session: what happened to it, as far as that is known, and what it waits for."""

from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from sessiond.client import Client, Event, Session, Watch
from sessiond.client.errors import NotFound
from sessiond.client.watching import HISTORY_COMPLETE
from sessiond.pb.sessiond.v1 import admin_service_pb2, session_policy_pb2
from sessiond.sessionctl.commands import moment_ms, print_event
from sessiond.sessionctl.output import print_json, print_line, print_table
from sessiond.sessionctl.running import Work
from sessiond.sessionctl.sessions import moment, origin_of, reason_of

Moment = tuple[int, str, str, str]
"""When (unix ms), the same as text, what happened, and what there is to say about it."""

LAST: Final = frozenset({"UPDATED", "USED"})
"""What a record says of the last time only; that is worth saying where it is later than every event."""


def timeline(key: str, output: str, *, follow: bool) -> Work:
    """Return the work of `timeline`."""

    async def work(client: Client) -> None:
        quoted = key.replace("\\", "\\\\").replace('"', '\\"').replace("*", "\\*")
        async with client.watch(f'key = "{quoted}"', history=True) as events:
            told = await _history(events)
            try:
                known = await client.policy(key)
            except NotFound:
                if not told:
                    raise
                _print(story(told), output)
                return
            _print(story(told, known), output)
            if not follow:
                return
            async for event in events:
                print_event(event, output)
                if event.kind == "DELETED":
                    return

    return work


async def _history(events: Watch) -> list[Event]:
    """Return what has happened."""
    told: list[Event] = []
    async for event in events:
        if event.kind == HISTORY_COMPLETE:
            break
        told.append(event)
    return told


def story(told: Sequence[Event], known: admin_service_pb2.GetSessionPolicyResponse | None = None) -> list[Moment]:
    """Return what happened to a session, and what is known of it, in the order of time; what is to come at the end."""
    happened = [_event(event) for event in told]
    if known is None:
        return happened
    seen = {event.kind for event in told if event.session.create_time == known.session.create_time}
    last_ms = max((event.time_ms for event in told), default=0)
    past = [one for one in _past(known) if (one[0] > last_ms if one[2] in LAST else one[2] not in seen)]
    return sorted([*happened, *past, *_future(known)], key=itemgetter(0))


def _event(event: Event) -> Moment:
    """Return what there is to say of an event."""
    about = ", ".join(event.changed)
    if event.kind == "CREATED":
        about = _made_through(event.session)
    elif event.kind == "CLOSED":
        about = _why_over(event.session)
    return event.time_ms, moment_ms(event.time_ms), event.kind, about


def _past(known: admin_service_pb2.GetSessionPolicyResponse) -> Iterator[Moment]:
    """Yield what the record of a session says of its past, where the events are not kept any more."""
    session = known.session
    times = (
        (session.create_time, "CREATED", _made_through(session)),
        (session.activate_time, "ACTIVATED", ""),
        (session.update_time, "UPDATED", "last change of its record"),
        (session.last_activity_time, "USED", "for the last time"),
        (session.end_time, "CLOSED", _why_over(session)),
    )
    yield from (_moment(*told) for told in times if told[0].ByteSize())
    for rule in known.rules:
        if rule.activation_time.ByteSize():
            yield _moment(rule.activation_time, "RULE", f"{rule.id} is active from then on")


def _made_through(session: Session) -> str:
    return f"through the {origin_of(session)} surface"


def _why_over(session: Session) -> str:
    return " ".join(filter(None, (reason_of(session), session.end_message)))


def _future(known: admin_service_pb2.GetSessionPolicyResponse) -> Iterator[Moment]:
    for timer in known.timers:
        kind = session_policy_pb2.TimerKind.Name(timer.kind).removeprefix("TIMER_KIND_")
        yield _moment(timer.due_time, "DUE", " ".join(filter(None, (kind, timer.subject))))
    for request in known.pending_requests:
        tried = f"tried {request.attempts} times" if request.attempts else "not yet sent"
        about = (f"{request.peer} must still be told {request.method}, {tried}", request.last_error)
        yield _moment(request.create_time, "PENDING", ": ".join(filter(None, about)))


def _moment(time: Timestamp, what: str, about: str) -> Moment:
    return time.ToMilliseconds(), moment(time), what, about


def _print(told: list[Moment], output: str) -> None:
    if output in {"json", "jsonl"}:
        entries = [{"time": time, "what": what, "about": about} for _, time, what, about in told]
        if output == "json":
            print_json(entries)
            return
        for entry in entries:
            print_line(entry)
        return
    print_table(["TIME", "WHAT", "ABOUT"], (moment[1:] for moment in told))
