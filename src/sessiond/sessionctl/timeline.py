"""The story of a session: what happened to it, as far as that is known, and what it waits for."""

from collections.abc import Iterator
from operator import itemgetter

from google.protobuf.timestamp_pb2 import Timestamp

from sessiond.client import Client
from sessiond.pb.sessiond.v1 import admin_service_pb2, session_policy_pb2
from sessiond.sessionctl.commands import print_event
from sessiond.sessionctl.output import print_json, print_line, print_table
from sessiond.sessionctl.running import Work
from sessiond.sessionctl.sessions import moment, origin_of, reason_of

Moment = tuple[int, str, str, str]
"""When (unix ms), the same as text, what happened, and what there is to say about it."""


def timeline(key: str, output: str, *, follow: bool) -> Work:
    """Return the work of `timeline`."""

    async def work(client: Client) -> None:
        quoted = key.replace("\\", "\\\\").replace('"', '\\"').replace("*", "\\*")
        if not follow:
            _print(story(await client.policy(key)), output)
            return
        async with client.watch(f'key = "{quoted}"') as events:
            _print(story(await client.policy(key)), output)
            async for event in events:
                print_event(event, output)
                if event.kind == "DELETED":
                    return

    return work


def story(known: admin_service_pb2.GetSessionPolicyResponse) -> list[Moment]:
    """Return what is known of a session in the order of time, what is still to come at the end."""
    return sorted([*_past(known), *_future(known)], key=itemgetter(0))


def _past(known: admin_service_pb2.GetSessionPolicyResponse) -> Iterator[Moment]:
    session = known.session
    yield _moment(session.create_time, "CREATED", f"through the {origin_of(session)} surface")
    times = (
        (session.activate_time, "ACTIVATED", ""),
        (session.update_time, "UPDATED", "last change of its record"),
        (session.last_activity_time, "USED", "for the last time"),
        (session.end_time, "CLOSED", " ".join(filter(None, (reason_of(session), session.end_message)))),
    )
    yield from (_moment(*told) for told in times if told[0].ByteSize())
    for rule in known.rules:
        if rule.activation_time.ByteSize():
            yield _moment(rule.activation_time, "RULE", f"{rule.id} is active from then on")


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
