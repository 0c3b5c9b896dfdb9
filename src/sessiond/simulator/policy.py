"""The policy controller: PCRF and OCS behind one service, with plans from a file and books that can be looked into.

A report is known by session, request number and key. A repeated one gets the same answer and is counted once, as a
server that takes duplicates for what they are does (RFC 8506 clause 5.1.1, T flag).
"""

from collections.abc import Callable
from typing import Final, TypeAlias, TypeVar

import grpc

from sessiond.pb.magma.lte import session_proxy_pb2_grpc
from sessiond.pb.magma.lte.credit_pb2 import (
    FINITE,
    INFINITE_METERED,
    INFINITE_UNMETERED,
    ChargingCredit,
    CreditUnit,
    CreditUsage,
    GrantedUnits,
    RedirectServer,
)
from sessiond.pb.magma.lte.monitoring_pb2 import (
    PCC_RULE_LEVEL,
    SESSION_LEVEL,
    UsageMonitoringCredit,
    UsageMonitorUpdate,
)
from sessiond.pb.magma.lte.policy_pb2 import ServiceIdentifier
from sessiond.pb.magma.lte.rule_install_pb2 import DynamicRuleInstall, StaticRuleInstall
from sessiond.pb.magma.lte.session_context_pb2 import TgppContext
from sessiond.pb.magma.lte.session_proxy_pb2 import (
    CreateSessionRequest,
    CreateSessionResponse,
    CreditUpdateResponse,
    CreditUsageUpdate,
    SessionTerminateRequest,
    SessionTerminateResponse,
    UpdateSessionRequest,
    UpdateSessionResponse,
    UsageMonitoringUpdateRequest,
    UsageMonitoringUpdateResponse,
)
from sessiond.simulator.accounts import Account, Books, Meter
from sessiond.simulator.config import Monitor, Plan, Plans, Quota, Simulation
from sessiond.simulator.rules import credit_key, key_text, wire_rules
from sessiond.simulator.wire import Context

SUCCESS: Final = 2001
USER_UNKNOWN: Final = 5030
RATING_FAILED: Final = 5031
UNKNOWN_SESSION: Final = 5002
PERMANENT_FAILURES: Final = range(5000, 6000)
"""Result codes that say that a report was not taken (RFC 6733 clause 7.1.5); it will be in the last one again."""
HOSTS: Final = TgppContext(gx_dest_host="pcrf.example", gy_dest_host="ocs.example")

ReportKey: TypeAlias = tuple[str, int, str, str]
_Answer = TypeVar("_Answer", CreditUpdateResponse, UsageMonitoringUpdateResponse)


class Refused(Exception):
    """A session is not to be; the text is what the gateway hears."""


class PolicySide:
    """What PCRF and OCS decide, and what they have been told."""

    def __init__(self, simulation: Simulation) -> None:
        self.sessions: dict[str, Books] = {}
        self._plans = Plans(simulation)
        self._rules = wire_rules(simulation.rules)
        self._accounts: dict[tuple[str, str, str], Account] = {}
        self._opened: dict[str, CreateSessionResponse] = {}
        self._charged: dict[ReportKey, CreditUpdateResponse] = {}
        self._monitored: dict[ReportKey, UsageMonitoringUpdateResponse] = {}

    def create(self, request: CreateSessionRequest) -> CreateSessionResponse:
        """Open a session: rules, first quotas, monitors."""
        if (known := self._opened.get(request.session_id)) is not None:
            return known
        common = request.common_context
        plan = self._plans.of(common.sid.id)
        code = USER_UNKNOWN if plan is None else plan.failure_code
        if plan is None or code:
            raise Refused(f"PCRF refused the session with Diameter result code {code}")
        books = Books(
            session_id=request.session_id,
            subscriber=common.sid.id,
            address=common.ue_ipv4,
            apn=common.apn,
            plan=plan.name,
        )
        self.sessions[books.session_id] = books
        answer = self._opening(plan, books)
        self._opened[books.session_id] = answer
        return answer

    def update(self, request: UpdateSessionRequest) -> UpdateSessionResponse:
        """Take usage of any number of sessions, and grant more."""
        charged = {report.session_id for report in request.updates}
        for session_id in charged | {report.session_id for report in request.usage_monitors}:
            if (books := self.sessions.get(session_id)) is not None:
                books.updates += 1
        return UpdateSessionResponse(
            responses=[self._charge(report) for report in request.updates],
            usage_monitor_responses=[self._monitor(report) for report in request.usage_monitors],
        )

    def terminate(self, request: SessionTerminateRequest) -> SessionTerminateResponse:
        """Close a session with its last usage."""
        subscriber = request.common_context.sid.id
        books = self.sessions.get(request.session_id)
        if books is not None and books.terminated:
            books.repeats += 1
        elif books is not None:
            self._close(books, request)
        return SessionTerminateResponse(sid=subscriber, session_id=request.session_id)

    def _opening(self, plan: Plan, books: Books) -> CreateSessionResponse:
        return CreateSessionResponse(
            session_id=books.session_id,
            static_rules=[StaticRuleInstall(rule_id=name) for name in plan.static_rules],
            dynamic_rules=[DynamicRuleInstall(policy_rule=self._rules[name]) for name in plan.dynamic_rules],
            credits=[self._credit_answer(quota, books) for quota in plan.quotas],
            usage_monitors=[self._monitor_answer(monitor, books) for monitor in plan.monitors],
            tgpp_ctx=HOSTS,
            online=True,
        )

    def _charge(self, report: CreditUsageUpdate) -> CreditUpdateResponse:
        usage = report.usage
        key = credit_key(usage.charging_key, usage.service_identifier.value)
        books = self.sessions.get(report.session_id)
        if books is None:
            return _credit_refusal(report.common_context.sid.id, report.session_id, usage.charging_key, UNKNOWN_SESSION)

        def take() -> CreditUpdateResponse:
            quota = self._quota(books, key)
            if quota is None:
                return _credit_refusal(books.subscriber, books.session_id, usage.charging_key, RATING_FAILED)
            meter = books.credits.setdefault(key, Meter(tracked=False))
            _book(meter, usage)
            answer = self._credit_answer(quota, books)
            if answer.result_code in PERMANENT_FAILURES:
                _book(meter, usage, -1)
            return answer

        return _once(self._charged, (books.session_id, report.request_number, "Gy", key), take, books)

    def _monitor(self, report: UsageMonitoringUpdateRequest) -> UsageMonitoringUpdateResponse:
        key = key_text(report.update.monitoring_key)
        books = self.sessions.get(report.session_id)
        if books is None:
            return UsageMonitoringUpdateResponse(
                session_id=report.session_id, sid=report.sid, result_code=UNKNOWN_SESSION
            )

        def take() -> UsageMonitoringUpdateResponse:
            if not report.HasField("update"):
                return _about_rules(books)
            _book(books.monitors.setdefault(key, Meter(tracked=False)), report.update)
            monitor = self._monitor_of(books, key)
            if monitor is None:
                return _without_monitor(books, report.update)
            return self._monitor_answer(monitor, books)

        return _once(self._monitored, (books.session_id, report.request_number, "Gx", key), take, books)

    def _close(self, books: Books, request: SessionTerminateRequest) -> None:
        for usage in request.credit_usages:
            key = credit_key(usage.charging_key, usage.service_identifier.value)
            _book(books.credits.setdefault(key, Meter(tracked=False)), usage)
        for update in request.monitor_usages:
            _book(books.monitors.setdefault(key_text(update.monitoring_key), Meter(tracked=False)), update)
        books.terminated = True
        for meter in (*books.credits.values(), *books.monitors.values()):
            meter.give_back()

    def _credit_answer(self, quota: Quota, books: Books) -> CreditUpdateResponse:
        key = credit_key(quota.rating_group, quota.service_identifier or 0)
        answer = _credit_success(quota, books)
        if quota.failure_code:
            answer.success, answer.result_code = False, quota.failure_code
            suspended = 4000 <= quota.failure_code < 5000
            books.credits.setdefault(key, Meter(tracked=suspended))
            return answer
        meter = books.credits.setdefault(key, Meter(unlimited=quota.limit != "finite"))
        meter.tracked = True
        if quota.limit == "finite":
            account = self._account(books, "Gy", key, quota.total_bytes, meter)
            volume = account.grant(meter, quota.grant_bytes)
            dry = account.left() == 0
            if dry and not volume and quota.when_dry.action == "refuse":
                answer.success, answer.result_code = False, quota.when_dry.result_code
                return answer
            _fill_grant(answer.credit, quota, volume, final=dry and quota.when_dry.action != "refuse")
        return answer

    def _monitor_answer(self, monitor: Monitor, books: Books) -> UsageMonitoringUpdateResponse:
        meter = books.monitors.setdefault(monitor.key, Meter())
        if monitor.level == "session":
            books.session_monitors.add(monitor.key)
        account = self._account(books, "Gx", monitor.key, monitor.total_bytes, meter)
        volume = account.grant(meter, monitor.grant_bytes)
        meter.ended = not volume
        answer = _about_rules(books)
        answer.credit.CopyFrom(
            UsageMonitoringCredit(
                action=UsageMonitoringCredit.CONTINUE,
                monitoring_key=monitor.key.encode(),
                level=SESSION_LEVEL if monitor.level == "session" else PCC_RULE_LEVEL,
                granted_units=_total(volume),
            )
        )
        return answer

    def _account(self, books: Books, kind: str, key: str, total: int | None, meter: Meter) -> Account:
        account = self._accounts.setdefault((books.subscriber, kind, key), Account(total, []))
        if not any(known is meter for known in account.meters):
            account.meters.append(meter)
        return account

    def _quota(self, books: Books, key: str) -> Quota | None:
        plan = self._plans.named(books.plan) or Plan(name="")
        quotas = {credit_key(quota.rating_group, quota.service_identifier or 0): quota for quota in plan.quotas}
        return quotas.get(key)

    def _monitor_of(self, books: Books, key: str) -> Monitor | None:
        plan = self._plans.named(books.plan) or Plan(name="")
        return {monitor.key: monitor for monitor in plan.monitors}.get(key)


class PolicyController(session_proxy_pb2_grpc.CentralSessionControllerServicer):
    """The policy side as a gRPC service."""

    def __init__(self, side: PolicySide) -> None:
        self.side = side

    async def CreateSession(self, request: CreateSessionRequest, context: Context) -> CreateSessionResponse:
        """Open a session (CCR-I)."""
        try:
            return self.side.create(request)
        except Refused as refusal:
            await context.abort(grpc.StatusCode.UNKNOWN, str(refusal))

    async def UpdateSession(self, request: UpdateSessionRequest, _context: Context) -> UpdateSessionResponse:
        """Take usage and grant more (CCR-U)."""
        return self.side.update(request)

    async def TerminateSession(self, request: SessionTerminateRequest, _context: Context) -> SessionTerminateResponse:
        """Close a session (CCR-T)."""
        return self.side.terminate(request)


def _once(answers: dict[ReportKey, _Answer], key: ReportKey, take: Callable[[], _Answer], books: Books) -> _Answer:
    """Return the answer to a report: the first time by taking it, from then on the same again."""
    if key in answers:
        books.repeats += 1
    else:
        answers[key] = take()
    return answers[key]


def _book(meter: Meter, usage: CreditUsage | UsageMonitorUpdate, sign: int = 1) -> None:
    meter.reported_tx += sign * usage.bytes_tx
    meter.reported_rx += sign * usage.bytes_rx


def _credit_success(quota: Quota, books: Books) -> CreditUpdateResponse:
    limits = {"finite": FINITE, "infinite_metered": INFINITE_METERED, "infinite_unmetered": INFINITE_UNMETERED}
    answer = CreditUpdateResponse(
        success=True,
        result_code=SUCCESS,
        sid=books.subscriber,
        session_id=books.session_id,
        charging_key=quota.rating_group,
        limit_type=limits[quota.limit],
        credit=ChargingCredit(validity_time=quota.validity_s),
        tgpp_ctx=HOSTS,
    )
    if quota.service_identifier is not None:
        answer.service_identifier.CopyFrom(ServiceIdentifier(value=quota.service_identifier))
    return answer


def _fill_grant(credit: ChargingCredit, quota: Quota, volume: int, *, final: bool) -> None:
    """Put in what is granted and, if it is the last of it, what happens after that."""
    credit.granted_units.CopyFrom(_total(volume))
    if not final:
        return
    credit.is_final = True
    match quota.when_dry.action:
        case "redirect":
            credit.final_action = ChargingCredit.REDIRECT
            credit.redirect_server.CopyFrom(
                RedirectServer(redirect_address_type=RedirectServer.URL, redirect_server_address=quota.when_dry.url)
            )
        case "restrict":
            credit.final_action = ChargingCredit.RESTRICT_ACCESS
            credit.restrict_rules.extend(quota.when_dry.rules)
        case _:
            credit.final_action = ChargingCredit.TERMINATE


def _credit_refusal(subscriber: str, session_id: str, rating_group: int, code: int) -> CreditUpdateResponse:
    return CreditUpdateResponse(
        sid=subscriber, session_id=session_id, charging_key=rating_group, result_code=code, tgpp_ctx=HOSTS
    )


def _about_rules(books: Books) -> UsageMonitoringUpdateResponse:
    """Return an answer that changes nothing about the rules."""
    return UsageMonitoringUpdateResponse(
        success=True, result_code=SUCCESS, session_id=books.session_id, sid=books.subscriber, tgpp_ctx=HOSTS
    )


def _without_monitor(books: Books, update: UsageMonitorUpdate) -> UsageMonitoringUpdateResponse:
    """Return that the PCRF does not watch this key."""
    answer = _about_rules(books)
    answer.credit.CopyFrom(
        UsageMonitoringCredit(
            action=UsageMonitoringCredit.DISABLE, monitoring_key=update.monitoring_key, level=update.level
        )
    )
    return answer


def _total(volume: int) -> GrantedUnits:
    return GrantedUnits(total=CreditUnit(is_valid=True, volume=volume))
