"""What the configuration says about sessions of a type (requirement L2)."""

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import structs

from sessiond.core.access import Access, Permissions, Quota
from sessiond.core.profiles import BUILT_IN, Profile
from sessiond.core.session import Options
from sessiond.daemon.config import load
from sessiond.daemon.profiles import profiles_of

Read = Callable[[str], dict[str, Profile]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Return a function that reads the profiles of a configuration."""

    def read_profiles(text: str) -> dict[str, Profile]:
        path = tmp_path / "sessiond.yml"
        path.write_text(text, encoding="utf-8")
        return profiles_of(load(path))

    return read_profiles


def test_profiles_are_built_in(read: Read) -> None:
    """Workflows and executions live for an hour, peers end when they are idle for five minutes."""
    assert read("") == BUILT_IN
    for kind in ("ussd", "voice", "sms", "payment", "execution"):
        assert BUILT_IN[kind].ttl_ms == 3_600_000
    assert (BUILT_IN["peer"].ttl_ms, BUILT_IN["peer"].idle_timeout_ms) == (0, 300_000)
    assert BUILT_IN["execution"].access == Access(Permissions(execute_functions=True, compose_functions=True))


FULL = """
profiles:
  ussd:
    ttl_s: 180
    idle_limit_s: 60
    maximum_duration_s: 600
    confirm_within_s: 5
    retention_after_end_s: 3600
    retention_newest: 1000
    key_rotation_interval_s: 7
    permissions: [compose_functions]
    quotas: {executions: 100, bytes: 0, associates: 10, data_bytes: 99}
    settings: {auto_expire: false, execution_logging: true}
"""


def test_every_key_of_a_profile(read: Read) -> None:
    """Each takes the place of what is built in; no quota is no limit."""
    profiles = read(FULL)
    assert profiles["ussd"] == Profile(
        ttl_ms=180_000,
        idle_timeout_ms=60_000,
        max_duration_ms=600_000,
        confirm_within_ms=5000,
        key_rotation_interval_ms=7000,
        access=Access(Permissions(compose_functions=True)),
        options=Options(auto_expire=False, execution_logging=True),
        quotas={"executions": Quota(100)},
        most_associates=10,
        most_data_octets=99,
        retention_after_end_ms=3_600_000,
        retention_newest=1000,
    )
    assert profiles["sms"] == BUILT_IN["sms"]


def test_what_is_left_out_is_as_built_in(read: Read) -> None:
    """A profile that says little changes little; one of a new type has no limits but for retention."""
    profiles = read("profiles: {peer: {idle_limit_s: 0}, kiosk: {ttl_s: 5}}")
    assert profiles["peer"] == structs.replace(BUILT_IN["peer"], idle_timeout_ms=0)
    assert profiles["kiosk"] == Profile(ttl_ms=5000)
