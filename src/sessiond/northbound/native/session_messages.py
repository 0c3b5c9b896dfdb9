"""Sessions of every surface as messages of `sessiond.v1`; pure functions.

What a session does not have is left out, and what many sessions share is merged as octets, which costs a fraction of
setting its fields: a message costs as much as it says that no other says.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct as StructMessage
from google.protobuf.timestamp_pb2 import Timestamp

from sessiond.core.access import Access, Isolation, Permissions
from sessiond.core.callers import namespace_of
from sessiond.core.ends import end_of
from sessiond.core.etag import etag_of
from sessiond.core.fields import PENDING, origin_of
from sessiond.core.lifecycle import State
from sessiond.core.secrecy import shown
from sessiond.core.session import Context, Head, Identity, Options, Peer, Record, Session
from sessiond.core.traffic import Traffic
from sessiond.pb.sessiond.v1 import session_pb2
from sessiond.translate.scalars import timestamp

STATES: Final = {state: session_pb2.SessionState.Value(f"SESSION_STATE_{state}") for state in State}
SHARED: Final = 4096
"""How many texts of octets are remembered of each kind."""


def session_to_wire(session: Session) -> session_pb2.Session:
    """Return a session, whatever it is of."""
    message = session_pb2.Session()
    put_session(message, session)
    return message


def put_session(message: session_pb2.Session, session: Session) -> None:
    """Put a session into an empty message, which may be a part of another: one that is made first is copied."""
    head = session.head
    message.key = session.key
    message.type = session.type
    message.namespace = namespace_of(session)
    message.state = STATES[head.state]
    message.etag = etag_of(session)
    message.origin = _origin(session)
    octets = _times(head)
    if head.state in PENDING:
        octets.append(_PENDING)
    if session.record is not None:
        octets += _of_native(session, session.record)
    message.MergeFromString(b"".join(octets))
    if head.reason:
        _add_end(message, head)
    if session.identity is not None:
        _add_identity(message, session.identity)
    if session.context is not None:
        _add_context(message, session.context)
    if session.details:
        details_to_wire(message.details, shown(session))
    if session.associates:
        message.associate_keys.extend(session.associates.values())
    for resource, quota in session.quotas.items():
        message.quotas[resource].CopyFrom(session_pb2.Quota(limit=quota.limit, used=quota.used))
    if session.peer is not None:
        message.peer.CopyFrom(peer_to_wire(session.peer))
    if session.secret is not None:
        message.key_version = session.secret.version
        if session.secret.rotate_at_ms:
            message.key_rotation_time.CopyFrom(timestamp(session.secret.rotate_at_ms) or Timestamp())
    _add_traffic(message, session)


def _add_traffic(message: session_pb2.Session, session: Session) -> None:
    if session.traffic is not None:
        message.traffic.CopyFrom(traffic_to_wire(session.traffic))
    elif session.rules:
        message.traffic.bytes_sent = sum(rule.moved_tx for rule in session.rules.values())
        message.traffic.bytes_received = sum(rule.moved_rx for rule in session.rules.values())


def _origin(session: Session) -> session_pb2.SessionOrigin.ValueType:
    if session.record is not None:
        return session_pb2.SESSION_ORIGIN_NATIVE
    return session_pb2.SessionOrigin.Value(f"SESSION_ORIGIN_{origin_of(session)}")


# -- parts as octets


def _tag(field: str) -> bytes:
    """Return what a message within a session begins with: the number of its field, and that its length follows."""
    number, octets = session_pb2.Session.DESCRIPTOR.fields_by_name[field].number << 3 | 2, bytearray()
    while number > 127:
        octets.append(number & 127 | 128)
        number >>= 7
    return bytes((*octets, number))


_CREATED: Final = _tag("create_time")
_UPDATED: Final = _tag("update_time")
_ACTIVATED: Final = _tag("activate_time")
_USED: Final = _tag("last_activity_time")
_EXPIRES: Final = _tag("expire_time")
_ENDED: Final = _tag("end_time")
_PENDING: Final = session_pb2.Session(pending=True).SerializeToString()


@lru_cache(SHARED)
def _stamp(time_ms: int) -> bytes:
    """Return a timestamp with its length before it."""
    seconds, milliseconds = divmod(time_ms, 1000)
    octets = Timestamp(seconds=seconds, nanos=milliseconds * 1_000_000).SerializeToString()
    return bytes((len(octets),)) + octets


def _times(head: Head) -> list[bytes]:
    """Return the times that every session has."""
    octets = [_CREATED, _stamp(head.created_at_ms)]
    if head.activated_at_ms:
        octets += _ACTIVATED, _stamp(head.activated_at_ms)
    if head.closed_at_ms:
        octets += _ENDED, _stamp(head.closed_at_ms)
    return octets


def _of_native(session: Session, record: Record) -> list[bytes]:
    """Return what only native sessions have."""
    octets = [_UPDATED, _stamp(record.updated_at_ms), _USED, _stamp(record.used_at_ms)]
    if session.limits is not None:
        if session.limits.expire_at_ms:
            octets += _EXPIRES, _stamp(session.limits.expire_at_ms)
        octets.append(_spans(session.limits.max_duration_ms, session.limits.idle_timeout_ms))
    if session.options is not None:
        octets.append(_settings(session.options))
    if session.access is not None:
        octets.append(_access(session.access))
    return octets


@lru_cache(SHARED)
def _spans(max_duration_ms: int, idle_timeout_ms: int) -> bytes:
    return session_pb2.Session(
        max_duration=duration(max_duration_ms) if max_duration_ms else None,
        idle_timeout=duration(idle_timeout_ms) if idle_timeout_ms else None,
    ).SerializeToString()


@lru_cache(SHARED)
def _settings(options: Options) -> bytes:
    settings = session_pb2.Settings(
        auto_expire=options.auto_expire,
        execution_logging=options.execution_logging,
        performance_monitoring=options.performance_monitoring,
    )
    return session_pb2.Session(settings=settings, sensitive_details=options.sensitive_details).SerializeToString()


@lru_cache(SHARED)
def _access(access: Access) -> bytes:
    return session_pb2.Session(
        permissions=permissions_to_wire(access.permissions), isolation=isolation_to_wire(access.isolation)
    ).SerializeToString()


# -- parts as messages


def permissions_to_wire(permissions: Permissions) -> session_pb2.Permissions:
    """Return what a session may do."""
    return session_pb2.Permissions(
        execute_functions=permissions.execute_functions,
        compose_functions=permissions.compose_functions,
        read_across_sessions=permissions.read_across_sessions,
        write_across_sessions=permissions.write_across_sessions,
    )


def isolation_to_wire(isolation: Isolation) -> session_pb2.Isolation:
    """Return what a session may reach."""
    return session_pb2.Isolation(
        readable_namespaces=isolation.readable_namespaces,
        writable_namespaces=isolation.writable_namespaces,
        allowed_functions=isolation.allowed_functions,
        denied_functions=isolation.denied_functions,
        barrier=isolation.barrier,
    )


def details_to_wire(message: StructMessage, details: Mapping[str, Any]) -> None:
    """Fill in details."""
    message.update(details)


def duration(span_ms: int) -> Duration:
    """Return a span of time as a message."""
    seconds, milliseconds = divmod(span_ms, 1000)
    return Duration(seconds=seconds, nanos=milliseconds * 1_000_000)


def traffic_to_wire(traffic: Traffic) -> session_pb2.Traffic:
    """Return what went through a session."""
    return session_pb2.Traffic(
        bytes_sent=traffic.bytes_sent,
        bytes_received=traffic.bytes_received,
        packets_sent=traffic.packets_sent,
        packets_received=traffic.packets_received,
        send_errors=traffic.send_errors,
        receive_errors=traffic.receive_errors,
    )


def peer_to_wire(peer: Peer) -> session_pb2.Peer:
    """Return the other node of a session."""
    return session_pb2.Peer(
        node_id=peer.node_id,
        capabilities=peer.capabilities,
        address=peer.address,
        transport=peer.transport,
        previous_transport=peer.previous_transport,
        resumptions=peer.resumptions,
    )


def _add_end(message: session_pb2.Session, head: Head) -> None:
    reason, text = end_of(head.reason)
    message.end_reason = session_pb2.EndReason.Value(f"END_REASON_{reason}")
    message.end_message = head.message or text


def _add_identity(message: session_pb2.Session, identity: Identity) -> None:
    """Fill in who a session is; names that are empty cost little."""
    if identity.data_source:
        message.data_source = identity.data_source
    if identity.msisdn:
        message.msisdn = identity.msisdn
    if identity.identifier:
        message.identifier = identity.identifier
    if identity.parent:
        message.parent_key = identity.parent
    if identity.version > 0:
        message.version = identity.version
    if identity.utc_offset is not None:
        message.utc_offset.CopyFrom(Duration(seconds=identity.utc_offset.seconds, nanos=identity.utc_offset.nanos))


def _add_context(message: session_pb2.Session, context: Context) -> None:
    """Fill in what the access side knows about a gateway session."""
    message.subscriber = context.subscriber
    message.msisdn = context.msisdn
    message.gateway.CopyFrom(
        session_pb2.GatewayContext(
            apn=context.apn,
            radio_access=f"TGPP_{context.rat}",
            ipv4_address=context.ue_ipv4,
            ipv6_address=context.ue_ipv6,
            bearer_id=context.lte.bearer_id if context.lte else 0,
            enb_teid=context.teids.enb,
            agw_teid=context.teids.agw,
            imei=context.lte.imei if context.lte else "",
            mac_address=context.wlan.mac_addr if context.wlan else "",
            plmn_id=context.lte.plmn_id if context.lte else "",
        )
    )
