"""Traffic: counted as a change that adds."""

import pytest

from sessiond.core.errors import InvalidArgument
from sessiond.core.traffic import Traffic, addition, check_traffic, resources, uptime_ms
from sessiond.core.update import Change, applied


def test_traffic_adds_up() -> None:
    """The change adds what is new, and nothing else."""
    more = Traffic(bytes_sent=10, packets_received=2)
    assert addition(more) == Change(add={"bytes_sent": 10, "packets_received": 2})
    assert applied(Traffic(bytes_sent=1, send_errors=3), addition(more)) == Traffic(
        bytes_sent=11, packets_received=2, send_errors=3
    )
    assert not addition(Traffic())


def test_traffic_uses_quotas() -> None:
    """Both directions count."""
    traffic = Traffic(bytes_sent=10, bytes_received=5, packets_sent=2, packets_received=1, send_errors=9)
    assert resources(traffic) == {"bytes": 15, "packets": 3}


@pytest.mark.parametrize("amount", [-1, 2**48])
def test_traffic_that_cannot_be_counted(amount: int) -> None:
    """Numbers that would run over are refused by the path of their field."""
    assert check_traffic(Traffic(bytes_sent=1)) == Traffic(bytes_sent=1)
    with pytest.raises(InvalidArgument) as caught:
        check_traffic(Traffic(receive_errors=amount))
    assert caught.value.field == "traffic.receive_errors"


@pytest.mark.parametrize(
    ("activated", "closed", "now", "expected"), [(0, 0, 50, 0), (10, 0, 50, 40), (10, 30, 50, 20), (60, 0, 50, 0)]
)
def test_uptime(activated: int, closed: int, now: int, expected: int) -> None:
    """From the activation until now or the end; never negative, whatever the clock does."""
    assert uptime_ms(activated, closed, now) == expected
