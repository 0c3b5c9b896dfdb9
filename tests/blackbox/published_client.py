"""A program as the publisher's samples are: generated `ma.streaming.api.v1`, no deadlines, nothing of this repository.

Run with the address of a server; prints what it has seen as one JSON object. A reader waits on the sync client for a
session to begin, a writer makes one, and the reader follows it on the aio client until it ends.
"""

import asyncio
import json
import sys
import threading
from typing import Any

import grpc
from ma.streaming.api.v1 import api_pb2, api_pb2_grpc  # type: ignore[import-not-found]

SOURCE = "SampleDataSource"


def live_session(stub: Any) -> str | None:
    """Return the newest session that goes on, as the sample reader finds it: backwards."""
    keys = stub.GetCurrentSessions(api_pb2.GetCurrentSessionsRequest(data_source=SOURCE)).session_keys
    for key in reversed(keys):
        known = stub.GetSessionInfo(api_pb2.GetSessionInfoRequest(session_key=key))
        if known.success and not known.is_complete:
            return str(key)
    return None


def wait_for_session(stub: Any, subscribed: threading.Event) -> str:
    """Return the first session that begins; the sample leaves the stream after one message."""
    stream = stub.GetSessionStartNotification(api_pb2.GetSessionStartNotificationRequest(data_source=SOURCE))
    stream.initial_metadata()
    subscribed.set()
    for started in stream:
        key = str(started.session_key)
        break
    stream.cancel()
    return key


def write(stub: Any, ending: threading.Event) -> dict[str, Any]:
    """Make a session, name it at once, say more about it, and end it when the reader is there."""
    made = stub.CreateSession(api_pb2.CreateSessionRequest(data_source=SOURCE, type="Session", version=1))
    key = made.session_key
    stub.UpdateSessionIdentifier(api_pb2.UpdateSessionIdentifierRequest(session_key=key, identifier="Sample run"))
    stub.UpdateSessionDetails(api_pb2.UpdateSessionDetailsRequest(session_key=key, details={"driver": "1"}))
    stub.AddAssociateSession(api_pb2.AddAssociateSessionRequest(session_key=key, associate_session_key="parent"))
    ending.wait()
    ended = stub.EndSession(api_pb2.EndSessionRequest(data_source=SOURCE, session_key=key))
    return {"key": key, "offsets": dict(made.new_session.topic_partition_offsets), "ended": ended.success}


async def follow(address: str, key: str, ending: threading.Event) -> dict[str, Any]:
    """Follow a session to its end: poll until it has a name, then wait on the stop stream."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = api_pb2_grpc.SessionManagementServiceStub(channel)
        request = api_pb2.GetSessionInfoRequest(session_key=key)
        while not (known := await stub.GetSessionInfo(request)).associate_session_keys:
            pass
        stops = stub.GetSessionStopNotification(api_pb2.GetSessionStopNotificationRequest(data_source=SOURCE))
        await stops.initial_metadata()
        ending.set()
        async for stopped in stops:
            if stopped.session_key == key:
                break
        stops.cancel()
        last = await stub.GetSessionInfo(request)
    return {
        "identifier": known.identifier,
        "details": dict(known.details),
        "stream offset": known.topic_partition_offsets[f"{SOURCE}.Stream1:0"],
        "complete": [known.is_complete, last.is_complete],
    }


def main(address: str) -> None:
    """Play the writer and the reader of the samples."""
    subscribed, ending = threading.Event(), threading.Event()
    with grpc.insecure_channel(address) as channel:
        stub = api_pb2_grpc.SessionManagementServiceStub(channel)
        seen: dict[str, Any] = {"before": live_session(stub)}
        written: dict[str, Any] = {}

        def writer() -> None:
            subscribed.wait()
            written.update(write(stub, ending))

        thread = threading.Thread(target=writer)
        thread.start()
        seen["key"] = wait_for_session(stub, subscribed)
        seen["live"] = live_session(stub)
        seen |= asyncio.run(follow(address, seen["key"], ending))
        thread.join()
        seen |= {"written": written, "after": live_session(stub)}
    print(json.dumps(seen))


if __name__ == "__main__":
    main(sys.argv[1])
