"""The arithmetic of a quota: worked examples of credit.md section 4, and conservation whatever happens."""

from collections.abc import Callable
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.core import credit
from sessiond.core.credit import CreditLimit, Quota, Report, Tracking
from sessiond.core.quantity import GrantedUnits, RequestedUnits, Volume
from sessiond.core.update import Change, applied

NOW_S = 1_700_000_000
THRESHOLD = 0.8


class Account:
    """A quota through its life."""

    def __init__(self, *grants: GrantedUnits, limit: CreditLimit = CreditLimit.FINITE) -> None:
        self.quota = Quota(limit=limit)
        self.number = 0
        for units in grants:
            self.grant(units)

    def grant(self, units: GrantedUnits) -> None:
        """Receive a grant."""
        self._change(credit.granted(self.quota, units))

    def use(self, tx: int = 0, rx: int = 0, now_s: int = NOW_S) -> None:
        """Count traffic."""
        self._change(credit.used(self.quota, tx, rx, now_s))

    def report(self) -> Report:
        """Send what is not reported yet."""
        self.number += 1
        self._change(credit.sent(self.quota, self.number, "QUOTA_EXHAUSTED", credit.requested(self.quota)))
        assert self.quota.in_flight is not None
        return self.quota.in_flight

    def acknowledge(self) -> None:
        """Have the report taken."""
        self._change(credit.acknowledged(self.quota))

    def refuse(self) -> None:
        """Have the report come back."""
        self._change(credit.returned(self.quota))

    def refill(self, units: GrantedUnits) -> None:
        """Have the report taken and a grant come with the answer."""
        self.acknowledge()
        self.grant(units)

    def exhausted(self, threshold: float = THRESHOLD) -> bool:
        """Whether the quota is used up to a threshold."""
        return credit.exhausted(self.quota, threshold)

    def requested(self) -> tuple[int, int, int]:
        """Return what would be asked for: total, tx, rx."""
        units = credit.requested(self.quota)
        return units.total, units.tx, units.rx

    def allowed(self) -> tuple[int, int, int]:
        """Return what is allowed: total, tx, rx."""
        return self.quota.allowed_total, self.quota.allowed_tx, self.quota.allowed_rx

    def floor(self) -> tuple[int, int, int]:
        """Return the floors: total, tx, rx."""
        return self.quota.floor_total, self.quota.floor_tx, self.quota.floor_rx

    def reported(self) -> tuple[int, int]:
        """Return what is acknowledged: tx, rx."""
        return self.quota.reported_tx, self.quota.reported_rx

    def _change(self, change: Change) -> None:
        self.quota = applied(self.quota, change)


def total(volume: int | None) -> GrantedUnits:
    """Return a grant on the total leg."""
    return GrantedUnits(total=volume)


def test_example_a_plain() -> None:
    """Grant 1000: an update is due at 800 and asks for 800; the next grant moves floor and threshold along.

    reference: test_session_credit.test_collect_updates_when_nearly_exhausted, test_collect_updates_none_available.
    """
    account = Account(total(1000))
    account.use(400, 399)
    assert (account.exhausted(), account.requested()) == (False, (799, 0, 0))
    account.use(0, 1)
    assert account.exhausted()
    assert account.report() == Report(1, 400, 400, "QUOTA_EXHAUSTED", RequestedUnits(800))
    account.refill(total(1000))
    assert (account.floor()[0], account.allowed()[0], account.reported()) == (1000, 2000, (400, 400))
    account.use(999)
    assert not account.exhausted()
    account.use(1)
    assert (account.exhausted(), account.requested()[0]) == (True, 800)


def test_example_b_over_use() -> None:
    """Over-use is reported in full, a whole grant is asked for, and the next grant writes the over-use off.

    reference: test_session_credit.test_collect_updates_when_overusing.
    """
    account = Account(total(1000))
    account.use(700, 500)
    sent = account.report()
    assert (sent.tx, sent.rx, sent.requested.total) == (700, 500, 1000)
    account.refill(total(1000))
    assert (account.allowed()[0], account.floor()[0]) == (2200, 1200)
    account.use(799)
    assert not account.exhausted()
    account.use(1)
    assert account.exhausted()


def test_example_c_one_leg_has_a_floor_of_its_own() -> None:
    """A tx-only grant moves the tx floor, so that the step between updates is 80 % of a grant and nothing piles up."""
    account = Account(GrantedUnits(tx=1000))
    account.use(tx=800, rx=5000)
    assert account.exhausted()
    account.report()
    account.refill(GrantedUnits(tx=1000))
    assert (account.floor()[1], account.allowed()[1]) == (1000, 2000)
    account.use(tx=999)
    assert not account.exhausted()
    account.use(tx=1)
    assert (account.exhausted(), account.requested()) == (True, (0, 800, 0))
    account.report()
    account.refill(GrantedUnits(tx=1000))
    assert (account.floor()[1], account.allowed()[1]) == (2000, 3000)


def test_example_d_empty_grant() -> None:
    """A grant of zero changes no quota: the credit stays exhausted, and the size of the last real grant is asked for.

    reference: test_session_credit.test_is_quota_exhausted_after_empty_grant.
    """
    account = Account(total(1000))
    account.use(800)
    account.report()
    account.refill(total(0))
    assert (account.allowed()[0], account.floor()[0], account.exhausted()) == (1000, 0, True)
    account.use(100)
    assert account.requested()[0] == 900
    account.grant(GrantedUnits())
    assert (account.quota.tracking, account.exhausted(), account.requested()) == (Tracking.TOTAL_ONLY, True, (0, 0, 0))


def test_an_empty_grant_after_others() -> None:
    """The size of the last real grant is what lies between floor and quota, however much was granted before."""
    account = Account(total(1000))
    account.use(800)
    account.grant(total(1000))
    account.grant(total(0))
    account.use(1100)
    assert (account.floor()[0], account.allowed()[0], account.requested()[0]) == (1000, 2000, 900)


def test_an_untouched_grant_asks_for_nothing() -> None:
    """What is left is not asked for again: after a fresh grant nothing is."""
    assert Account(total(1000)).requested() == (0, 0, 0)


def test_example_e_tolerance() -> None:
    """Use of twice the grant is written off with the next one; a final grant then runs to its end.

    reference: ChargingGrantTest.test_tolerance_quota_exhausted.
    """
    account = Account(total(1000))
    account.use(1000, 1000)
    sent = account.report()
    assert sent.tx + sent.rx == 2000
    account.refill(total(1000))
    assert (account.allowed()[0], account.reported()) == (3000, (1000, 1000))
    account.grant(total(1000))
    assert account.allowed()[0] == 4000
    account.use(1999)
    assert not account.exhausted(1.0)
    account.use(1)
    assert account.exhausted(1.0)


def test_example_f_all_legs() -> None:
    """With three legs each is judged alone; the same grant again moves all floors."""
    account = Account(GrantedUnits(2000, 1000, 1500))
    account.use(100, 1199)
    assert not account.exhausted()
    account.use(0, 1)
    assert account.exhausted()
    assert account.requested() == (1300, 100, 1200)
    account.report()
    account.refill(GrantedUnits(2000, 1000, 1500))
    assert (account.allowed(), account.floor()) == ((4000, 2000, 3000), (2000, 1000, 1500))


@pytest.mark.parametrize(("reported", "unreported"), [(1000, 200), (0, 1200)])
def test_example_g_what_is_in_flight_is_not_unreported(reported: int, unreported: int) -> None:
    """Unreported is used less what is reported plus what is in flight, on the rx leg as on the other."""
    quota = Quota(used_rx=1500, reported_rx=reported, in_flight=Report(1, 0, 300, "QUOTA_EXHAUSTED"))
    assert credit.unreported(quota) == Volume(0, unreported)


def test_a_three_leg_grant_fills_each_leg() -> None:
    """A first grant fills what it names, not the floors; reference: test_session_credit.test_track_credit."""
    account = Account(GrantedUnits(300, 100, 200))
    assert (account.allowed(), account.floor()) == ((300, 100, 200), (0, 0, 0))


def test_usage_accumulates() -> None:
    """What is used adds up, and so does what would be asked for.

    reference: test_session_credit.test_add_received_credit.
    """
    account = Account(total(1024))
    account.use(10, 20)
    account.use(30, 40)
    assert (account.quota.used_tx, account.quota.used_rx, account.requested()[0]) == (40, 60, 100)


def test_everything_used_is_reported() -> None:
    """A grant that is used up is reported whole, and a whole one is asked for.

    reference: test_session_credit.test_collect_updates.
    """
    account = Account(total(1024))
    account.use(500, 524)
    assert account.exhausted()
    assert account.report() == Report(1, 500, 524, "QUOTA_EXHAUSTED", RequestedUnits(1024))
    assert credit.unreported(account.quota) == Volume(0, 0)


def test_two_legs_without_a_total() -> None:
    """With tx and rx each leg is judged and asked for alone; reference: test_session_credit.test_add_rx_tx_credit."""
    account = Account(GrantedUnits(tx=1000, rx=1000))
    assert account.quota.tracking is Tracking.TX_AND_RX
    account.use(tx=1000)
    assert (account.exhausted(), account.requested()) == (True, (0, 1000, 0))
    account.report()
    account.refill(GrantedUnits(tx=1000, rx=1000))
    account.use(50, 2000)
    assert account.requested() == (0, 50, 1000)
    sent = account.report()
    assert (sent.tx, sent.rx) == (50, 2000)
    account.refill(GrantedUnits(tx=1000, rx=1000))
    assert not account.exhausted()


def test_counting_with_three_legs() -> None:
    """Threshold, floors and a zero grant with all legs; reference: test_session_credit.test_counting_algorithm."""
    account = Account(GrantedUnits(1000, 100, 200))
    account.use(99, 150)
    assert (account.exhausted(), account.exhausted(1.0)) == (True, False)
    account.grant(GrantedUnits(1000, 100, 200))
    assert (account.allowed(), account.floor()) == ((2000, 200, 400), (1000, 100, 200))
    account.use(80, 150)
    assert not account.exhausted()
    account.use(1, 0)
    assert (account.exhausted(), account.exhausted(1.0)) == (True, False)
    account.use(20, 100)
    assert account.exhausted(1.0)
    account.grant(GrantedUnits(0, 0, 0))
    assert (account.allowed(), account.floor()) == ((2000, 200, 400), (1000, 100, 200))


@pytest.mark.parametrize(
    ("units", "half", "whole"),
    [
        (GrantedUnits(total=1000), (250, 250), (250, 250)),
        (GrantedUnits(rx=1000), (500, 500), (500, 500)),
        (GrantedUnits(tx=1000), (500, 500), (500, 500)),
    ],
)
def test_only_tracked_legs_exhaust(units: GrantedUnits, half: tuple[int, int], whole: tuple[int, int]) -> None:
    """The leg that was granted decides about exhaustion.

    reference: test_session_credit.test_is_quota_exhausted_total_only, _rx_only, _tx_only.
    """
    account = Account(units)
    account.use(*half)
    assert not account.exhausted()
    account.use(*whole)
    assert account.exhausted(1.0)


@pytest.mark.parametrize(
    ("units", "tracking"),
    [
        (GrantedUnits(1, 1, 1), Tracking.ALL_TOTAL_TX_RX),
        (GrantedUnits(1, 1, None), Tracking.TOTAL_ONLY),
        (GrantedUnits(1, None, 1), Tracking.TOTAL_ONLY),
        (GrantedUnits(1, 0, 0), Tracking.TOTAL_ONLY),
        (GrantedUnits(1), Tracking.TOTAL_ONLY),
        (GrantedUnits(None, 1, 1), Tracking.TX_AND_RX),
        (GrantedUnits(0, 1, None), Tracking.TX_ONLY),
        (GrantedUnits(None, None, 1), Tracking.RX_ONLY),
        (GrantedUnits(0, 0, 0), Tracking.UNSET),
        (GrantedUnits(), Tracking.UNSET),
    ],
)
def test_the_first_grant_settles_the_legs(units: GrantedUnits, tracking: Tracking) -> None:
    """Legs that are there and not zero are tracked; once they are settled no later grant changes them."""
    account = Account(units)
    assert account.quota.tracking is tracking
    account.grant(GrantedUnits(5, 5, 5))
    assert account.quota.tracking is (Tracking.ALL_TOTAL_TX_RX if tracking is Tracking.UNSET else tracking)


def test_no_grant_is_exhausted() -> None:
    """A quota that was never granted anything is exhausted before anything is used."""
    assert Account().exhausted()


@pytest.mark.parametrize("limit", [CreditLimit.INFINITE_METERED, CreditLimit.INFINITE_UNMETERED])
def test_an_infinite_quota_never_runs_out(limit: CreditLimit) -> None:
    """Usage of an infinite quota is counted and never exhausts it."""
    account = Account(limit=limit)
    account.use(10**12, 10**12)
    assert (account.exhausted(), account.exhausted(1.0)) == (False, False)


def test_an_inconsistent_floor_exhausts() -> None:
    """A floor above what is allowed cannot be: such a quota is exhausted, and a grant does not move the floor."""
    quota = Quota(tracking=Tracking.TOTAL_ONLY, allowed_total=10, floor_total=20)
    assert credit.exhausted(quota, THRESHOLD)
    assert "floor_total" not in credit.granted(quota, total(5)).add


def test_times_of_usage() -> None:
    """The first use is noted once, the last each time; no traffic is no use.

    reference: test_session_credit.test_get_credit_summary.
    """
    account = Account(total(1000))
    account.use(0, 0, NOW_S)
    assert (account.quota.first_usage_s, account.quota.last_usage_s) == (0, 0)
    account.use(64, 32, NOW_S)
    account.use(64, 32, NOW_S + 1)
    assert (account.quota.first_usage_s, account.quota.last_usage_s) == (NOW_S, NOW_S + 1)
    assert [credit.used_on(account.quota, leg) for leg in credit.LEGS] == [192, 128, 64]


@pytest.mark.parametrize("change", [credit.acknowledged, credit.returned])
def test_without_a_report_there_is_nothing_to_settle(change: Callable[[Quota], Change]) -> None:
    """An answer that comes when nothing is in flight changes nothing: no unit is acknowledged twice."""
    assert not change(Quota(used_tx=5))


@pytest.mark.parametrize(("numbers", "awaited"), [((7,), True), ((6, 7), True), ((6,), False), ((), False)])
def test_an_answer_is_for_the_requests_it_names(numbers: tuple[int, ...], awaited: bool) -> None:
    """A report waits for the answer to the request it went out in, and no other."""
    quota = Quota(in_flight=Report(7, 0, 0, "QUOTA_EXHAUSTED"))
    assert credit.awaits(quota, frozenset(numbers)) is awaited
    assert not credit.awaits(Quota(), frozenset(numbers))


Step: TypeAlias = Callable[[Account], object]
OCTETS = st.integers(0, 5000)
LEG = st.none() | OCTETS
UNITS = st.builds(GrantedUnits, LEG, LEG, LEG)
STEPS: st.SearchStrategy[Step] = st.one_of(
    UNITS.map(lambda units: lambda account: account.grant(units)),
    st.tuples(OCTETS, OCTETS).map(lambda octets: lambda account: account.use(*octets)),
    st.sampled_from([Account.acknowledge, Account.refuse]),
    st.just(lambda account: account.report() if account.quota.in_flight is None else None),
)


@given(st.lists(STEPS, max_size=25))
def test_usage_is_conserved(steps: list[Step]) -> None:
    """At every moment reported, in flight and unreported make up what is used, and none of them is negative."""
    account = Account()
    for step in steps:
        step(account)
        quota, rest = account.quota, credit.unreported(account.quota)
        flying = quota.in_flight or Report(0, 0, 0, "")
        assert quota.reported_tx + flying.tx + rest.tx == quota.used_tx
        assert quota.reported_rx + flying.rx + rest.rx == quota.used_rx
        assert min(quota.reported_tx, quota.reported_rx, flying.tx, flying.rx, rest.tx, rest.rx) >= 0


@given(st.lists(STEPS, max_size=15))
def test_floors_never_pass_what_is_allowed(steps: list[Step]) -> None:
    """The size of the current grant is never negative, and nothing that was allowed is taken back."""
    account = Account()
    for step in steps:
        before = account.allowed()
        step(account)
        assert all(floor <= allowed for floor, allowed in zip(account.floor(), account.allowed(), strict=True))
        assert all(now >= then for now, then in zip(account.allowed(), before, strict=True))


@given(st.lists(STEPS, max_size=15), st.integers(1, 10_000), st.sampled_from(credit.LEGS))
def test_a_grant_over_use_can_be_used(steps: list[Step], volume: int, leg: str) -> None:
    """However much was over-used before, a grant on a leg leaves exactly itself or more to use on that leg."""
    account = Account()
    for step in steps:
        step(account)
    left = getattr(account.quota, f"allowed_{leg}") - credit.used_on(account.quota, leg)
    account.grant(GrantedUnits(**{leg: volume}))
    now_left = getattr(account.quota, f"allowed_{leg}") - credit.used_on(account.quota, leg)
    assert now_left == max(left, 0) + volume


@given(st.lists(STEPS, max_size=15), st.tuples(OCTETS, OCTETS))
def test_exhaustion_comes_in_order(steps: list[Step], more: tuple[int, int]) -> None:
    """What is used up is past its threshold, and using more never makes a quota less exhausted."""
    account = Account()
    for step in steps:
        step(account)
    assert account.exhausted(THRESHOLD) or not account.exhausted(1.0)
    near, empty = account.exhausted(THRESHOLD), account.exhausted(1.0)
    account.use(*more)
    assert account.exhausted(THRESHOLD) or not near
    assert account.exhausted(1.0) or not empty


@given(st.lists(STEPS, max_size=15))
def test_never_more_than_a_grant_is_asked_for(steps: list[Step]) -> None:
    """A request is between nothing and the size of the last grant, on every leg."""
    account = Account()
    for step in steps:
        step(account)
    sizes = [
        getattr(account.quota.granted, leg) or allowed - floor
        for leg, allowed, floor in zip(credit.LEGS, account.allowed(), account.floor(), strict=True)
    ]
    assert all(0 <= asked <= size for asked, size in zip(account.requested(), sizes, strict=True))
