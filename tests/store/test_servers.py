"""The tests of this folder say by name which kind of store they could not be run against."""

import pytest

from tests.store import servers
from tests.store.servers import binary_of


@pytest.mark.parametrize("kind", ["valkey", "cluster", "redis"])
def test_a_kind_that_is_missing_is_named(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who has no such server sees what was not tested."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(servers, "find_binary", lambda _: None)
    with pytest.raises(pytest.skip.Exception, match=f"no {kind} server"):
        binary_of(kind)


@pytest.mark.parametrize("kind", ["valkey", "cluster"])
def test_what_must_be_there_fails_in_ci(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In CI a kind that comes with the environment is not passed over in silence."""
    monkeypatch.setenv("CI", "true")
    monkeypatch.setattr(servers, "find_binary", lambda _: None)
    with pytest.raises(pytest.fail.Exception, match=f"no {kind} server"):
        binary_of(kind)
