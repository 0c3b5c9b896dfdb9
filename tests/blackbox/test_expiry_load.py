"""Many sessions expire at once (requirement W4): none early, none forgotten, and the daemon has time for others."""

from pathlib import Path

import pytest

from sessiond.pb.sessiond.v1 import session_pb2 as session
from tests.blackbox.expiry import expire

pytestmark = [pytest.mark.blackbox, pytest.mark.slow]


@pytest.mark.parametrize("store", ["memory", "valkey"])
async def test_w4_many_expire_within_a_moment(store: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Each ends by itself, for that reason, and not before its time; `bench/expiry.py` looks at how late."""
    url = "memory:" if store == "memory" else request.getfixturevalue("one_valkey").url
    expiry = await expire(tmp_path, 1000, 1000, lead_ms=6000, store={"url": url})
    assert min(expiry.late_ms) >= 0
    assert expiry.reasons == {session.END_REASON_EXPIRED}
