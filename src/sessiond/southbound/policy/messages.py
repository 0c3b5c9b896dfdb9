"""Sessions as requests to the policy controller, and its answers as values of the core."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from google.protobuf.message import Message

from sessiond.app.ports.peers import UsageReport
from sessiond.core import credit
from sessiond.core.charging import ChargingCredit, UpdateReason, wanted
from sessiond.core.credit import Report
from sessiond.core.decide.answer import CreditReply, MonitorReply, UpdateAnswer
from sessiond.core.ids import credit_key_parts
from sessiond.core.monitors import Monitor
from sessiond.core.quantity import RequestedUnits
from sessiond.core.rules import RuleInstall
from sessiond.core.session import (
    Context,
    DestinationHosts,
    Gateway,
    LteContext,
    PolicyAnswer,
    Session,
    WlanContext,
)
from sessiond.pb.magma.lte import (
    credit_pb2,
    monitoring_pb2,
    rule_install_pb2,
    session_context_pb2,
    session_proxy_pb2,
    subscriber_pb2,
)
from sessiond.translate import context as contexts
from sessiond.translate import units
from sessiond.translate.rules import dynamic_install_from_wire, static_install_from_wire
from sessiond.translate.scalars import octets_of

_UPDATE_TYPES: Final = dict(credit_pb2.CreditUsage.UpdateType.items())
_NO_LTE: Final = LteContext()
_NO_WLAN: Final = WlanContext()


def create_request(
    session: Session, requested_units: int, timezone_offset_min: int | None
) -> session_proxy_pb2.CreateSessionRequest:
    """Return the question whether a session may be (CCR-I); the time zone only if there is one to tell."""
    context = contexts.context_of(session)
    zone = None
    if timezone_offset_min is not None:
        zone = session_context_pb2.Timezone(offset_minutes=timezone_offset_min)
    return session_proxy_pb2.CreateSessionRequest(
        session_id=session.key,
        access_timezone=zone,
        requested_units=units.requested_units_to_wire(
            RequestedUnits(requested_units, requested_units, requested_units)
        ),
        common_context=contexts.common_context_to_wire(context),
        rat_specific_context=contexts.rat_specific_context_to_wire(context),
    )


def policy_answer(response: session_proxy_pb2.CreateSessionResponse) -> PolicyAnswer:
    """Return what the policy side allows a session; monitors that it could not set up are left out."""
    monitors = (reply for reply in response.usage_monitors if reply.success and reply.HasField("credit"))
    return PolicyAnswer(
        credits=tuple(units.credit_answer_from_wire(reply) for reply in response.credits),
        monitors=tuple(units.monitor_answer_from_wire(reply.credit) for reply in monitors),
        installs=_installs(response.static_rules, response.dynamic_rules),
        hosts=contexts.hosts_from_wire(response.tgpp_ctx),
        online=response.online,
        revalidation_at_ms=units.revalidation_at_ms(response.event_triggers, response.revalidation_time),
    )


def update_requests(
    reports: Iterable[UsageReport], max_bytes: int
) -> Iterator[tuple[list[UsageReport], session_proxy_pb2.UpdateSessionRequest]]:
    """Yield reports of many sessions with the requests that carry them (CCR-U), none of them larger than that.

    What belongs to one session stays together, however large it is: its answer comes as a whole.
    """
    part, request, size = list[UsageReport](), session_proxy_pb2.UpdateSessionRequest(), 0
    for report in reports:
        updates, monitors = len(request.updates), len(request.usage_monitors)
        more = _add(request, report)
        if part and size + more > max_bytes:
            del request.updates[updates:], request.usage_monitors[monitors:]
            yield part, request
            part, request, size = [], session_proxy_pb2.UpdateSessionRequest(), 0
            more = _add(request, report)
        part.append(report)
        size += more
    if part:
        yield part, request


def _add(request: session_proxy_pb2.UpdateSessionRequest, report: UsageReport) -> int:
    """Add the usage in flight of one session, as far as it belongs to a number of its report; return its octets."""
    size = 0
    for key, charge in report.session.credits.items():
        if (sent := charge.in_flight) is not None and sent.number in report.numbers:
            size += _size_in_list(_add_credit_update(request, report.session, key, sent))
    for monitor_update in _monitor_updates(report):
        request.usage_monitors.append(monitor_update)
        size += _size_in_list(monitor_update)
    return size


def _size_in_list(message: Message) -> int:
    """Return the octets that a message takes in a repeated field of a number below 16, with tag and length."""
    size = message.ByteSize()
    return 1 + max(1, -(-size.bit_length() // 7)) + size


def update_answers(
    reports: Sequence[UsageReport], response: session_proxy_pb2.UpdateSessionResponse
) -> Mapping[str, UpdateAnswer]:
    """Return the answer to each report by session; what is said about a session that was not asked for is dropped."""
    subscribers = {report.session.key: report.session.scope for report in reports}
    charging: dict[str, list[CreditReply]] = {key: [] for key in subscribers}
    monitoring: dict[str, list[MonitorReply]] = {key: [] for key in subscribers}
    for reply in response.responses:
        if _is_about(reply.session_id, reply.sid, subscribers):
            charging[reply.session_id].append(_credit_reply(reply))
    for monitor_reply in response.usage_monitor_responses:
        if _is_about(monitor_reply.session_id, monitor_reply.sid, subscribers):
            monitoring[monitor_reply.session_id].append(_monitor_reply(monitor_reply))
    return {
        report.session.key: UpdateAnswer(
            numbers=report.numbers,
            credits=tuple(charging[report.session.key]),
            monitors=tuple(monitoring[report.session.key]),
        )
        for report in reports
    }


def terminate_request(session: Session) -> session_proxy_pb2.SessionTerminateRequest:
    """Return the end of a session (CCR-T) with all that is not reported, and an entry even where that is nothing."""
    context, gateway = contexts.context_of(session), _gateway(session)
    lte, wlan = context.lte or _NO_LTE, context.wlan or _NO_WLAN
    return session_proxy_pb2.SessionTerminateRequest(
        session_id=session.key,
        request_number=gateway.request_number,
        credit_usages=[_last_usage(key, charge) for key, charge in session.credits.items()],
        monitor_usages=[_last_monitor_usage(key, monitor) for key, monitor in session.monitors.items()],
        spgw_ipv4=lte.spgw_ipv4,
        imei=lte.imei,
        plmn_id=lte.plmn_id,
        imsi_plmn_id=lte.imsi_plmn_id,
        user_location=lte.user_location,
        hardware_addr=wlan.mac_addr_binary,
        tgpp_ctx=contexts.hosts_to_wire(gateway.hosts),
        common_context=contexts.common_context_to_wire(context),
        charging_characteristics=lte.charging_characteristics,
    )


def terminate_stale_request(subscriber: str, session_id: str) -> session_proxy_pb2.SessionTerminateRequest:
    """Return the end of a session of which only the names are left."""
    sid = subscriber_pb2.SubscriberID(id=subscriber)
    common = session_context_pb2.CommonSessionContext(sid=sid)
    return session_proxy_pb2.SessionTerminateRequest(session_id=session_id, common_context=common)


def _add_credit_update(
    request: session_proxy_pb2.UpdateSessionRequest, session: Session, key: str, sent: Report
) -> session_proxy_pb2.CreditUsageUpdate:
    """Add one charging report; what is part of it is made in its place, because copies are dear."""
    context, hosts = contexts.context_of(session), _gateway(session).hosts
    lte, wlan = context.lte or _NO_LTE, context.wlan or _NO_WLAN
    update = request.updates.add(
        session_id=session.key,
        request_number=sent.number,
        spgw_ipv4=lte.spgw_ipv4,
        imei=lte.imei,
        plmn_id=lte.plmn_id,
        imsi_plmn_id=lte.imsi_plmn_id,
        user_location=lte.user_location,
        hardware_addr=wlan.mac_addr_binary,
        charging_characteristics=lte.charging_characteristics,
    )
    _write_usage(update.usage, key, sent)
    update.tgpp_ctx.gx_dest_host = hosts.gx
    update.tgpp_ctx.gy_dest_host = hosts.gy
    contexts.write_common_context(update.common_context, context)
    return update


def _monitor_updates(report: UsageReport) -> Iterator[session_proxy_pb2.UsageMonitoringUpdateRequest]:
    context, gateway = contexts.context_of(report.session), _gateway(report.session)
    for key, monitor in report.session.monitors.items():
        sent = monitor.in_flight
        if sent is not None and sent.number in report.numbers:
            usage = monitoring_pb2.UsageMonitorUpdate(
                monitoring_key=octets_of(key),
                level=units.level_to_wire(monitor.level),
                bytes_tx=sent.tx,
                bytes_rx=sent.rx,
            )
            yield _monitor_update(report.session.key, context, gateway, sent.number, usage)
    pending = gateway.revalidation
    if pending is not None and pending.number in report.numbers:
        yield _monitor_update(report.session.key, context, gateway, pending.number, None)


def _monitor_update(
    key: str, context: Context, gateway: Gateway, number: int, usage: monitoring_pb2.UsageMonitorUpdate | None
) -> session_proxy_pb2.UsageMonitoringUpdateRequest:
    """Return a report under a monitoring key; without usage, the question about rules that a revalidation is."""
    lte, wlan = context.lte or _NO_LTE, context.wlan or _NO_WLAN
    return session_proxy_pb2.UsageMonitoringUpdateRequest(
        update=usage,
        session_id=key,
        request_number=number,
        sid=context.subscriber,
        ue_ipv4=context.ue_ipv4,
        rat_type=contexts.rat_to_wire(context.rat),
        hardware_addr=wlan.mac_addr_binary,
        tgpp_ctx=contexts.hosts_to_wire(gateway.hosts),
        event_trigger=monitoring_pb2.REVALIDATION_TIMEOUT if usage is None else monitoring_pb2.USAGE_REPORT,
        charging_characteristics=lte.charging_characteristics,
    )


def _last_usage(key: str, charge: ChargingCredit) -> credit_pb2.CreditUsage:
    left = credit.unreported(charge)
    return _usage(key, Report(0, left.tx, left.rx, UpdateReason.TERMINATED, wanted(charge)))


def _last_monitor_usage(key: str, monitor: Monitor) -> monitoring_pb2.UsageMonitorUpdate:
    left = credit.unreported(monitor)
    level = units.level_to_wire(monitor.level)
    return monitoring_pb2.UsageMonitorUpdate(
        monitoring_key=octets_of(key), level=level, bytes_tx=left.tx, bytes_rx=left.rx
    )


def _usage(key: str, report: Report) -> credit_pb2.CreditUsage:
    message = credit_pb2.CreditUsage()
    _write_usage(message, key, report)
    return message


def _write_usage(message: credit_pb2.CreditUsage, key: str, report: Report) -> None:
    message.bytes_tx = report.tx
    message.bytes_rx = report.rx
    message.charging_key, identifier = credit_key_parts(key)
    if identifier is not None:
        message.service_identifier.value = identifier
    message.type = _UPDATE_TYPES[report.reason]
    requested = message.requested_units
    requested.total, requested.tx, requested.rx = report.requested.total, report.requested.tx, report.requested.rx


def _is_about(session_id: str, subscriber: str, subscribers: Mapping[str, str]) -> bool:
    """Whether an answer belongs to one of these sessions; the subscriber may be left out, but not be another one."""
    return session_id in subscribers and subscriber in {"", subscribers[session_id]}


def _credit_reply(reply: session_proxy_pb2.CreditUpdateResponse) -> CreditReply:
    return CreditReply(answer=units.credit_answer_from_wire(reply), hosts=_hosts(reply))


def _monitor_reply(reply: session_proxy_pb2.UsageMonitoringUpdateResponse) -> MonitorReply:
    return MonitorReply(
        success=reply.success,
        result_code=reply.result_code,
        answer=units.monitor_answer_from_wire(reply.credit) if reply.HasField("credit") else None,
        remove=tuple(reply.rules_to_remove),
        installs=_installs(reply.static_rules_to_install, reply.dynamic_rules_to_install),
        hosts=_hosts(reply),
        revalidation_at_ms=units.revalidation_at_ms(reply.event_triggers, reply.revalidation_time),
    )


def _hosts(
    reply: session_proxy_pb2.CreditUpdateResponse | session_proxy_pb2.UsageMonitoringUpdateResponse,
) -> DestinationHosts | None:
    return contexts.hosts_from_wire(reply.tgpp_ctx) if reply.HasField("tgpp_ctx") else None


def _installs(
    static: Iterable[rule_install_pb2.StaticRuleInstall], dynamic: Iterable[rule_install_pb2.DynamicRuleInstall]
) -> tuple[RuleInstall, ...]:
    return (
        *(static_install_from_wire(install) for install in static),
        *(dynamic_install_from_wire(install) for install in dynamic),
    )


def _gateway(session: Session) -> Gateway:
    if session.gateway is None:
        raise TypeError(f"session {session.key} is not a gateway session")
    return session.gateway
