"""Executions, traffic and statistics of a session: requests as commands, and what comes of them as messages."""

from typing import Final

from sessiond.app.executions import Authorized
from sessiond.core.access import LARGEST, Operation
from sessiond.core.decide.executions import Wish
from sessiond.core.errors import InvalidArgument
from sessiond.core.fields import traffic_of
from sessiond.core.session import Session
from sessiond.core.traffic import Executions, Traffic, check_traffic, uptime_ms
from sessiond.northbound.native import fields as of
from sessiond.northbound.native.session_messages import STATES, duration, permissions_to_wire, traffic_to_wire
from sessiond.pb.sessiond.v1 import session_pb2, session_service_pb2
from sessiond.translate.scalars import timestamp

OPERATIONS: Final = {
    session_service_pb2.Operation.Value(f"OPERATION_{operation}"): operation for operation in Operation
}


def wish_of(request: session_service_pb2.AuthorizeExecutionRequest) -> Wish:
    """Return what somebody wants to do in a session."""
    operation = OPERATIONS.get(request.operation)
    if operation is None:
        raise InvalidArgument("OPERATION_MISSING", f"there is no operation {request.operation}", field="operation")
    for resource, amount in request.usage.items():
        if amount > LARGEST:
            raise InvalidArgument("INVALID_CONFIGURATION", f"at most {LARGEST}", field=f"usage.{resource}")
    return Wish(operation, of.text_of(request.function, "function"), dict(request.usage))


def authorized_to_wire(authorized: Authorized) -> session_service_pb2.AuthorizeExecutionResponse:
    """Return that something may be done."""
    left_ms = authorized.remaining_ms
    return session_service_pb2.AuthorizeExecutionResponse(
        key=authorized.key,
        permissions=permissions_to_wire(authorized.permissions),
        remaining_time=None if left_ms is None else duration(left_ms),
        remaining_quotas=authorized.remaining_quotas,
    )


def more_of(request: session_service_pb2.RecordTrafficRequest) -> Traffic:
    """Return what went through a session in addition."""
    more = request.traffic
    return check_traffic(Traffic(**{name: getattr(more, name) for name in Traffic.__struct_fields__}))


def statistics_to_wire(session: Session, now_ms: int) -> session_service_pb2.GetSessionStatisticsResponse:
    """Return what a session has done so far."""
    head, executions = session.head, session.executions or Executions()
    used_at_ms = session.record.used_at_ms if session.record else 0
    message = session_service_pb2.GetSessionStatisticsResponse(
        key=session.key,
        state=STATES[head.state],
        uptime=duration(uptime_ms(head.activated_at_ms, head.closed_at_ms, now_ms)),
        idle_time=duration(max(0, (head.closed_at_ms or now_ms) - used_at_ms)) if used_at_ms else None,
        traffic=traffic_to_wire(traffic_of(session)),
        authorized_executions=executions.authorized,
        refused_executions=executions.refused,
        key_version=session.secret.version if session.secret else 0,
        last_execution_time=timestamp(executions.last_at_ms),
        executions_by_function=executions.functions,
    )
    for resource, quota in session.quotas.items():
        message.quotas[resource].CopyFrom(session_pb2.Quota(limit=quota.limit, used=quota.used))
    return message
