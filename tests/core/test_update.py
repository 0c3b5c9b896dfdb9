"""UpdateCriteria: the laws by which stores and histories agree."""

from typing import Any

import pytest
from hypothesis import given

from sessiond.core.charging import ChargingCredit
from sessiond.core.credit import COUNTERS
from sessiond.core.monitors import Monitor
from sessiond.core.session import Session
from sessiond.core.update import (
    NOTHING,
    Change,
    Operation,
    Put,
    Remove,
    UpdateCriteria,
    applied,
    apply,
    combined,
    difference,
    merge,
)
from tests.core.strategies import any_struct, criteria, gateway_sessions, only_adding

SESSION = gateway_sessions()
CHANGE = criteria()


@given(SESSION)
def test_nothing_changes_nothing(session: Session) -> None:
    """Applying no change gives the very same session."""
    assert apply(session, NOTHING) is session


@given(CHANGE)
def test_nothing_is_neutral_in_a_merge(change: UpdateCriteria) -> None:
    """Merging with no change, on either side, is the change itself."""
    assert merge(NOTHING, change) == change == merge(change, NOTHING)


@given(SESSION, CHANGE, CHANGE)
def test_a_merge_does_what_two_changes_do(session: Session, first: UpdateCriteria, second: UpdateCriteria) -> None:
    """Applying two changes one after the other is applying their merge."""
    assert apply(apply(session, first), second) == apply(session, merge(first, second))


@given(CHANGE, CHANGE, CHANGE)
def test_merging_is_associative(first: UpdateCriteria, second: UpdateCriteria, third: UpdateCriteria) -> None:
    """Three changes in a row merge to the same change, whichever two are merged first."""
    assert merge(merge(first, second), third) == merge(first, merge(second, third))


@given(SESSION, only_adding(), only_adding())
def test_additions_commute(session: Session, first: UpdateCriteria, second: UpdateCriteria) -> None:
    """Changes that only add give the same session in either order."""
    assert apply(apply(session, first), second) == apply(apply(session, second), first)


@given(SESSION, CHANGE, CHANGE)
def test_changes_of_different_parts_commute(session: Session, first: UpdateCriteria, second: UpdateCriteria) -> None:
    """Changes to different parts give the same session in either order."""
    apart = UpdateCriteria({path: operation for path, operation in second.parts.items() if path not in first.parts})
    assert apply(apply(session, first), apart) == apply(apply(session, apart), first)


@given(any_struct(ChargingCredit), any_struct(ChargingCredit))
def test_a_difference_leads_from_one_credit_to_the_other(before: ChargingCredit, after: ChargingCredit) -> None:
    """The difference of two credits, applied to the first, gives the second."""
    assert applied(before, difference(before, after, COUNTERS)) == after


@given(any_struct(Monitor), any_struct(Monitor))
def test_a_difference_adds_counters_and_sets_the_rest(before: Monitor, after: Monitor) -> None:
    """Counters are in a difference as deltas, other fields as values, and what is equal is in neither."""
    change = difference(before, after, COUNTERS)
    assert set(change.add) <= COUNTERS
    assert not set(change.set) & COUNTERS
    assert 0 not in change.add.values()
    assert bool(change) == (before != after)


@given(any_struct(Monitor))
def test_a_value_does_not_differ_from_itself(monitor: Monitor) -> None:
    """What is the same value has no difference."""
    assert not difference(monitor, monitor, COUNTERS)


@given(SESSION, CHANGE)
def test_applying_leaves_the_session_as_it_was(session: Session, change: UpdateCriteria) -> None:
    """A change makes a new session; the old one is still equal to what it was."""
    rules, credits_ = dict(session.rules), dict(session.credits)
    apply(session, change)
    assert (session.rules, session.credits) == (rules, credits_)


_A_CREDIT = ChargingCredit(used_tx=5)


@pytest.mark.parametrize(
    ("value", "operation", "after"),
    [
        (None, Put(_A_CREDIT), _A_CREDIT),
        (_A_CREDIT, Put(ChargingCredit()), ChargingCredit()),
        (_A_CREDIT, Remove(), None),
        (None, Remove(), None),
        (None, Change({"used_tx": 1}), None),
        (_A_CREDIT, Change(), _A_CREDIT),
        (_A_CREDIT, Change({"used_tx": 2}, {"suspended": True}), ChargingCredit(used_tx=7, suspended=True)),
    ],
)
def test_an_operation_on_a_part(value: Any, operation: Operation, after: Any) -> None:
    """A part is put, removed or changed; a change to what is not there has no effect."""
    assert applied(value, operation) == after


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        (Put(_A_CREDIT), Change({"used_tx": 2}), Put(ChargingCredit(used_tx=7))),
        (Remove(), Change({"used_tx": 2}), Remove()),
        (Remove(), Put(_A_CREDIT), Put(_A_CREDIT)),
        (Put(_A_CREDIT), Remove(), Remove()),
        (Change({"used_tx": 2}), Remove(), Remove()),
        (
            Change({"used_tx": 2}, {"suspended": True, "is_final": True}),
            Change({"used_tx": 3, "used_rx": 1}, {"suspended": False}),
            Change({"used_tx": 5, "used_rx": 1}, {"suspended": False, "is_final": True}),
        ),
    ],
)
def test_two_operations_in_one(first: Operation, second: Operation, both: Operation) -> None:
    """The operation that does what two do: deltas are summed, the later value of a field holds."""
    assert combined(first, second) == both


@pytest.mark.parametrize("change", [UpdateCriteria(), UpdateCriteria({("credits", "1"): Remove()})])
def test_criteria_are_true_if_there_is_a_change(change: UpdateCriteria) -> None:
    """Whether anything is to be written can be asked of the criteria."""
    assert bool(change) == bool(change.parts)


@pytest.mark.parametrize(
    ("first", "second"),
    [(Change({"used_tx": 1}), Change(set={"used_tx": 5})), (Change(set={"used_tx": 5}), Change({"used_tx": 1}))],
)
def test_a_field_is_added_to_or_set(first: Change, second: Change) -> None:
    """One field of one part is never both: what it would be after that would depend on who else adds to it."""
    with pytest.raises(ValueError, match="used_tx"):
        combined(first, second)
