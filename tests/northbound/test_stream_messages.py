"""Times of the stream surface that are none are refused by name."""

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from sessiond.core.errors import InvalidArgument
from sessiond.northbound.stream_api.messages import span_of, time_of


def test_a_span_that_is_none() -> None:
    """Its parts have one sign."""
    with pytest.raises(InvalidArgument) as caught:
        span_of(Duration(seconds=1, nanos=-1), "utc_offset")
    assert (caught.value.reason, caught.value.field) == ("DURATION_INVALID", "utc_offset")


def test_a_time_that_is_none() -> None:
    """It is in a year that a calendar has."""
    with pytest.raises(InvalidArgument) as caught:
        time_of(Timestamp(seconds=2**62), "creation_time")
    assert (caught.value.reason, caught.value.field) == ("TIME_INVALID", "creation_time")
