"""The switch under pipelined: flow tables, counters and the traffic through them, as a function of time.

A flow is one rule in one version for one address of a device. Taken down, it lets nothing pass any more but keeps its
counters until they were reported (reference: southbound.md 2.5). The ledger adds up what ever passed, per rule and
version, and is what the usage that sessiond reported is held against in the end.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final, TypeAlias, TypeVar
from zlib import crc32

from msgspec import Struct, structs

from sessiond.pb.magma.lte.pipelined_pb2 import (
    ActivateFlowsRequest,
    DeactivateFlowsRequest,
    RequestOriginType,
    RuleModResult,
)
from sessiond.pb.magma.lte.policy_pb2 import PolicyRule
from sessiond.pb.magma.lte.rule_stats_pb2 import RuleRecord
from sessiond.simulator.config import Rate
from sessiond.simulator.rules import Target, target_of

DROP_RULE: Final = "internal_default_drop_flow_rule"
"""The rule under which pipelined counts what no rule lets pass; its version is 0."""
LONGEST_GAP_S: Final = 60.0
"""A process that was away for longer does not find the traffic of all that time in its counters."""

DeviceKey: TypeAlias = tuple[str, str]
"""Subscriber and address."""
FlowKey: TypeAlias = tuple[str, int]
"""Rule and version, within a device."""
Rates: TypeAlias = Callable[[str], Rate]


class Flow(Struct, kw_only=True):
    """One rule in one version for one address: whether it lets traffic pass, and octets up and down so far."""

    subscriber: str
    address: str
    rule: str
    version: int
    target: Target
    gy: bool = False
    up: bool = True
    tx: int = 0
    rx: int = 0
    taken_tx: int = 0
    taken_rx: int = 0
    """What of it sessiond has certainly taken."""


class Device(Struct, kw_only=True):
    """One address of a subscriber, and what its drop flow has counted."""

    subscriber: str
    address: str
    dropped_tx: int = 0
    dropped_rx: int = 0


class Passed(Struct, kw_only=True):
    """What passed under one rule in one version for one address, and what it counts on.

    `doubtful` is what a switch that restarted had sent in a report whose answer it did not live to see: sessiond may
    have taken it or not.
    """

    subscriber: str
    address: str
    rule: str
    version: int
    target: Target
    tx: int = 0
    rx: int = 0
    doubtful_tx: int = 0
    doubtful_rx: int = 0


_Kept = TypeVar("_Kept", Flow, Passed)


class SwitchState(Struct, kw_only=True):
    """Everything that outlives the process of pipelined."""

    epoch: int
    counted_until: float
    restarted: bool = False
    reporting: bool = False
    flows: list[Flow] = []
    devices: list[Device] = []
    versions: list[tuple[str, str, str, int]] = []
    ledger: list[Passed] = []


class Switch:
    """The flow tables; changes come in as the requests of sessiond, traffic comes with time."""

    def __init__(self, state: SwitchState, rates: Rates, seed: int) -> None:
        self.epoch = state.epoch
        self.restarted = state.restarted
        self.reporting = False
        self._rates = rates
        self._seed = seed
        self._counted_until = state.counted_until
        self._devices = {_device(device): device for device in state.devices}
        self._flows: dict[DeviceKey, dict[FlowKey, Flow]] = _by_device(state.flows)
        self._ledger: dict[DeviceKey, dict[FlowKey, Passed]] = _by_device(state.ledger)
        self._versions: dict[DeviceKey, dict[str, int]] = {}
        for subscriber, address, rule, version in state.versions:
            self._versions.setdefault((subscriber, address), {})[rule] = version

    def state(self) -> SwitchState:
        """Return what must outlive the process."""
        return SwitchState(
            epoch=self.epoch,
            counted_until=self._counted_until,
            restarted=self.restarted,
            reporting=self.reporting,
            flows=list(self._all_flows()),
            devices=list(self._devices.values()),
            versions=[
                (*key, rule, version) for key, known in self._versions.items() for rule, version in known.items()
            ],
            ledger=[passed for known in self._ledger.values() for passed in known.values()],
        )

    def advance(self, now_s: float, attached: Collection[str] | None = None) -> None:
        """Let traffic pass until now; only devices with an attached address send any, None is all of them."""
        elapsed = min(now_s - self._counted_until, LONGEST_GAP_S)
        self._counted_until = now_s
        if elapsed <= 0:
            return
        for device, flows in self._flows.items():
            if attached is None or device[1] in attached:
                up = [flow for flow in flows.values() if flow.up]
                redirected = any(flow.gy for flow in up)
                for flow in up:
                    blocked = redirected and flow.target.credit and not flow.gy
                    self._count(flow, *self._offered(flow, now_s, elapsed), passes=not blocked)

    def activate(self, request: ActivateFlowsRequest) -> list[RuleModResult]:
        """Put flows up; a rule whose removal is already known under a newer version is not put up again."""
        gy = request.request_origin.type == RequestOriginType.GY
        results = []
        for address in _addresses(request.ip_addr, request.ipv6_addr):
            device = (request.sid.id, address)
            self._devices.setdefault(device, Device(subscriber=device[0], address=address))
            for policy in request.policies:
                done = self._install(device, policy.rule, policy.version, gy=gy)
                result = RuleModResult.SUCCESS if done else RuleModResult.FAILURE
                results.append(RuleModResult(rule_id=policy.rule.id, result=result, version=policy.version))
        return results

    def deactivate(self, request: DeactivateFlowsRequest) -> None:
        """Take flows down: those of some rules, or without rules everything of the device."""
        for address in _addresses(request.ip_addr, request.ipv6_addr):
            device = (request.sid.id, address)
            if not request.policies:
                self._take_all_down(device, and_drop_flow=request.remove_default_drop_flows)
            for policy in request.policies:
                self._take_down(device, policy.rule_id, policy.version, request.request_origin.type)

    def replace(self, requests: Iterable[ActivateFlowsRequest]) -> None:
        """Make the tables what is listed: what goes on keeps its counters, what is not listed goes."""
        for flow in self._all_flows():
            flow.up = False
        self._versions.clear()
        self._devices.clear()
        for request in requests:
            self.activate(request)

    def records(self) -> list[RuleRecord]:
        """Return all counters, drop flows included."""
        return [*map(_record, self._all_flows()), *map(_drop_record, self._devices.values())]

    def taken(self, records: Iterable[RuleRecord]) -> None:
        """Note that sessiond has taken a report; counters of older versions go, if all of them was in it."""
        for record in records:
            device = (record.sid, record.ue_ipv4 or record.ue_ipv6)
            flow = self._flows.get(device, {}).get((record.rule_id, record.rule_version))
            if flow is None:
                continue
            flow.taken_tx, flow.taken_rx = record.bytes_tx, record.bytes_rx
            stale = self._versions.get(device, {}).get(flow.rule) != flow.version
            if stale and (flow.tx, flow.rx) == (record.bytes_tx, record.bytes_rx):
                self._forget(device, flow)

    def _offered(self, flow: Flow, now_s: float, elapsed: float) -> tuple[int, int]:
        """Return what the subscriber sends and gets; half to one and a half times the rate, the same for one seed."""
        rate = self._rates(flow.rule)
        luck = crc32(f"{self._seed}/{flow.subscriber}/{flow.rule}/{int(now_s)}".encode()) % 1001
        share = elapsed * (500 + luck) / 1000
        return int(rate.up_bytes_per_s * share), int(rate.down_bytes_per_s * share)

    def _count(self, flow: Flow, tx: int, rx: int, *, passes: bool) -> None:
        if passes:
            passed = self._ledger[_device(flow)][_key(flow)]
            flow.tx, flow.rx = flow.tx + tx, flow.rx + rx
            passed.tx, passed.rx = passed.tx + tx, passed.rx + rx
        elif (drop := self._devices.get(_device(flow))) is not None:
            drop.dropped_tx, drop.dropped_rx = drop.dropped_tx + tx, drop.dropped_rx + rx

    def _install(self, device: DeviceKey, rule: PolicyRule, version: int, *, gy: bool) -> bool:
        versions = self._versions.setdefault(device, {})
        if version < versions.get(rule.id, 0):
            return False
        versions[rule.id] = version
        flows = self._flows.setdefault(device, {})
        for flow in _of_rule(flows, rule.id):
            flow.up = False
        subscriber, address = device
        names = Passed(subscriber=subscriber, address=address, rule=rule.id, version=version, target=target_of(rule))
        flow = flows.setdefault(
            _key(names),
            Flow(subscriber=subscriber, address=address, rule=rule.id, version=version, target=names.target),
        )
        flow.up, flow.gy = True, gy
        self._ledger.setdefault(device, {}).setdefault(_key(names), names)
        return True

    def _take_down(
        self, device: DeviceKey, rule: str, version: int, origin: RequestOriginType.OriginType.ValueType
    ) -> None:
        """Take the flows of a rule down; its counters go with the next report if the version is newer than theirs."""
        versions = self._versions.setdefault(device, {})
        versions[rule] = max(version, versions.get(rule, 0))
        for flow in _of_rule(self._flows.get(device, {}), rule):
            if origin == RequestOriginType.WILDCARD or flow.gy == (origin == RequestOriginType.GY):
                flow.up = False

    def _take_all_down(self, device: DeviceKey, *, and_drop_flow: bool) -> None:
        for flow in self._flows.get(device, {}).values():
            flow.up = False
        self._versions.pop(device, None)
        if and_drop_flow:
            self._devices.pop(device, None)

    def _forget(self, device: DeviceKey, flow: Flow) -> None:
        flows = self._flows[device]
        del flows[_key(flow)]
        if not flows:
            del self._flows[device]

    def _all_flows(self) -> Iterator[Flow]:
        return (flow for flows in self._flows.values() for flow in flows.values())


def started(previous: SwitchState | None, now_s: float, *, switch_restarts: bool) -> SwitchState:
    """Return the state in which pipelined finds the switch: as it was, or empty if the switch restarted too.

    The epoch is the start time, and another one even if the last start was within the same second.
    """
    if previous is None:
        return SwitchState(epoch=int(now_s), counted_until=now_s)
    epoch = max(int(now_s), previous.epoch + 1)
    if not switch_restarts:
        return structs.replace(previous, epoch=epoch, restarted=False, reporting=False)
    _lose_counters(previous)
    return SwitchState(epoch=epoch, counted_until=now_s, restarted=True, ledger=previous.ledger)


def _lose_counters(state: SwitchState) -> None:
    """Take out of the ledger what was in counters that nobody will report any more."""
    ledger = {(_device(passed), _key(passed)): passed for passed in state.ledger}
    for flow in state.flows:
        passed = ledger[_device(flow), _key(flow)]
        lost_tx, lost_rx = flow.tx - flow.taken_tx, flow.rx - flow.taken_rx
        passed.tx, passed.rx = passed.tx - lost_tx, passed.rx - lost_rx
        if state.reporting:
            passed.doubtful_tx, passed.doubtful_rx = passed.doubtful_tx + lost_tx, passed.doubtful_rx + lost_rx


def _device(item: Flow | Passed | Device) -> DeviceKey:
    return item.subscriber, item.address


def _key(item: Flow | Passed) -> FlowKey:
    return item.rule, item.version


def _by_device(items: Iterable[_Kept]) -> dict[DeviceKey, dict[FlowKey, _Kept]]:
    found: dict[DeviceKey, dict[FlowKey, _Kept]] = {}
    for item in items:
        found.setdefault(_device(item), {})[_key(item)] = item
    return found


def _of_rule(flows: Mapping[FlowKey, Flow], rule: str) -> Iterator[Flow]:
    return (flow for flow in flows.values() if flow.rule == rule)


def _addresses(ipv4: str, ipv6: bytes) -> list[str]:
    """Return the addresses a request is about; a carrier wifi device may have none yet."""
    return [address for address in (ipv4, ipv6.decode()) if address] or [""]


def _record(flow: Flow) -> RuleRecord:
    record = RuleRecord(rule_id=flow.rule, rule_version=flow.version, bytes_tx=flow.tx, bytes_rx=flow.rx)
    return _addressed(record, flow)


def _drop_record(device: Device) -> RuleRecord:
    record = RuleRecord(rule_id=DROP_RULE, dropped_tx=device.dropped_tx, dropped_rx=device.dropped_rx)
    return _addressed(record, device)


def _addressed(record: RuleRecord, item: Flow | Device) -> RuleRecord:
    record.sid = item.subscriber
    if ":" in item.address:
        record.ue_ipv6 = item.address
    else:
        record.ue_ipv4 = item.address
    return record
