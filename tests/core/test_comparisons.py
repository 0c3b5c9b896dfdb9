"""Comparisons: times, patterns, and truth values."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.core.comparisons import Literal, Unfit, comparison, glob, time_ms
from sessiond.core.fields import Field, Kind
from tests.core.test_filters import RECORDING

FLAG = Field(Kind.FLAG, lambda session: session.type == "stream")


@given(
    st.datetimes(
        min_value=datetime(1, 1, 2),  # noqa: DTZ001, the zone is drawn
        max_value=datetime(9999, 12, 30),  # noqa: DTZ001
        timezones=st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes))),
    )
)
def test_times_are_those_of_the_calendar(moment: datetime) -> None:
    """Any time in any zone comes to the milliseconds that Python's calendar says."""
    expected = (moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(milliseconds=1)
    assert time_ms(moment.isoformat()) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("2023-13-01T00:00:00Z", "2023-00-01T00:00:00Z", "2023-04-31T00:00:00Z", "0000-01-01T00:00:00Z"),
        *("1900-02-29T00:00:00Z", "2023-01-01T24:00:00Z", "2023-01-01T00:60:00Z", "2023-01-01T00:00:60Z"),
        *("2023-01-01T00:00:00", "2023-01-01", "2023-01-01T00:00:00+24:00", "2023-01-01T00:00:00+00:60", "now", ""),
    ],
)
def test_what_is_no_time(text: str) -> None:
    """A day that is not in the calendar, and a time without a zone, are none."""
    assert time_ms(text) is None


@pytest.mark.parametrize("text", ["2000-02-29T00:00:00Z", "2024-02-29T23:59:59.999999999Z", "2024-01-01t00:00:00z"])
def test_what_is_a_time(text: str) -> None:
    """Leap days are."""
    assert time_ms(text) is not None


@given(st.lists(st.text("ab", max_size=2), min_size=1, max_size=4), st.text("ab", max_size=8))
def test_patterns_match_as_regular_expressions_do(parts: list[str], text: str) -> None:
    """A star stands for anything, also for nothing."""
    import re  # noqa: PLC0415, for this one law

    assert glob(tuple(parts))(text) == bool(re.fullmatch(".*".join(parts), text))


@pytest.mark.parametrize(
    ("comparator", "value", "meant"), [("=", "true", True), ("!=", "true", False), (":", "*", True)]
)
def test_truth_values(comparator: str, value: str, meant: bool) -> None:
    """They are equal or not."""
    assert comparison(FLAG, comparator, Literal(tuple(value.split("*")), quoted=False))(RECORDING) is meant


@pytest.mark.parametrize(("comparator", "value"), [("=", "yes"), ("<", "true")])
def test_what_truth_values_cannot_be_compared_with(comparator: str, value: str) -> None:
    """There is no other value, and no order."""
    with pytest.raises(Unfit):
        comparison(FLAG, comparator, Literal((value,), quoted=False))
