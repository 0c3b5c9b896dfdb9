"""Messages as the reference sent and received them, and the session they were about.

`tests/data/recorded_messages.json` has them as proto JSON, with what the reference is known to do wrong put right.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message
from msgspec import structs

from sessiond.core.lifecycle import State
from sessiond.core.rules import Catalogue, Teids
from sessiond.core.session import Context, DestinationHosts, Gateway, Head, Session
from sessiond.pb.magma.lte import session_proxy_pb2
from sessiond.translate.context import context_from_wire
from sessiond.translate.rules import catalogue_from_json

M = TypeVar("M", bound=Message)

SUBSCRIBER = "IMSI001010000000001"
TEIDS = Teids(enb=4097, agw=8193)
HOSTS = DestinationHosts("pcrf.test", "ocs.test")

_ALL: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "recorded_messages.json").read_text("utf-8"))


def request(name: str, kind: Callable[[], M]) -> M:
    """Return a recorded request."""
    return json_format.ParseDict(_ALL[name]["request"], kind())


def response(name: str, kind: Callable[[], M]) -> M:
    """Return a recorded response."""
    return json_format.ParseDict(_ALL[name]["response"], kind())


def content(message: Message) -> Any:
    """Return what a message says: a sub-message without content says the same as none."""
    return _bare(json_format.MessageToDict(message, preserving_proto_field_name=True))


def catalogue() -> Catalogue:
    """Return the static rules of the recordings."""
    return catalogue_from_json(json.dumps({"rules": _ALL["static_rules"]}))


def context() -> Context:
    """Return the context of the recorded session, before its tunnel is known."""
    create = request("create", session_proxy_pb2.CreateSessionRequest)
    return context_from_wire(create.common_context, create.rat_specific_context)


def session(key: str, *, teids: Teids = TEIDS, gateway: Gateway | None = None, **parts: Any) -> Session:
    """Return the recorded session, under the id it has in a recording."""
    head = Head(state=State.ACTIVE, created_at_ms=1_700_000_000_000)
    return Session(
        key=key,
        type="lte",
        scope=SUBSCRIBER,
        head=head,
        context=structs.replace(context(), teids=teids),
        gateway=gateway or Gateway(hosts=HOSTS),
        **parts,
    )


def _bare(value: Any) -> Any:
    if isinstance(value, dict):
        parts = {name: _bare(part) for name, part in value.items()}
        return {name: part for name, part in parts.items() if part != {}}
    return [_bare(part) for part in value] if isinstance(value, list) else value
