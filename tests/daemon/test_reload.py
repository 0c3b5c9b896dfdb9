"""What a configuration that is read again changes, and what waits for a restart."""

from typing import Any

import msgspec
import pytest

from sessiond.core.errors import InvalidArgument
from sessiond.daemon.config import Config, ConfigError, Keys, Profile, Server, Store, StreamApi, WalletExhaustDetection
from sessiond.daemon.reload import LIVE, differences, refusal, taken_over
from sessiond.daemon.settings import settings_of
from sessiond.daemon.yaml_reader import Problem
from sessiond.northbound.operations import Reloaded


class Recorder:
    """A configuration that remembers which keys are read."""

    def __init__(self) -> None:
        self.read: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.read.add(name)
        return getattr(Config(), name)


def test_what_decisions_depend_on_is_in_force_at_once() -> None:
    """Every key that decisions depend on is live; beside them, only those that the daemon asks for each time."""
    recorder = Recorder()
    settings_of(recorder)  # type: ignore[arg-type]
    assert recorder.read | {"encryption", "log_level", "rule_update_interval_sec"} == LIVE


def test_live_keys_exist() -> None:
    """Each is a key of the configuration."""
    assert set(Keys.__struct_fields__) >= LIVE


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Reloaded()),
        ({"log_level": "DEBUG"}, Reloaded(changed=("log_level",))),
        (
            {"wallet_exhaust_detection": WalletExhaustDetection(terminate_on_exhaust=True)},
            Reloaded(changed=("wallet_exhaust_detection.terminate_on_exhaust",)),
        ),
        ({"store": Store(url="redis://h:1/0", exclusive=False)}, Reloaded(restart=("store.url", "store.exclusive"))),
        (
            {"server": Server(listen="127.0.0.1:1"), "final_unit_scope": "rating_group"},
            Reloaded(changed=("final_unit_scope",), restart=("server.listen",)),
        ),
        (
            {"stream_api": StreamApi(integrate_session_management=False)},
            Reloaded(restart=("stream_api.IntegrateSessionManagement",)),
        ),
    ],
)
def test_keys_with_another_value_are_named(changes: dict[str, Any], expected: Reloaded) -> None:
    """Keys are named as the file has them, with their sections."""
    assert differences(Config(), Config(**changes)) == expected


def test_keys_that_come_and_go_are_named() -> None:
    """A profile that is added or removed has all its keys named."""
    profile = {"ussd": Profile(ttl_s=5)}
    added, removed = differences(Config(), Config(profiles=profile)), differences(Config(profiles=profile), Config())
    assert set(added.changed + added.restart) == set(removed.changed + removed.restart)
    assert "profiles.ussd.ttl_s" in added.changed + added.restart


def test_what_waits_for_a_restart_goes_on_waiting() -> None:
    """Only live keys are taken over, so that the next reload still names the others."""
    read = Config(log_level="DEBUG", store=Store(url="redis://h:1/0"))
    in_force = taken_over(Config(), read)
    assert in_force == Config(log_level="DEBUG")
    assert differences(in_force, read) == Reloaded(restart=("store.url",))


def test_a_secret_is_named_but_not_shown() -> None:
    """A password that has changed is told by its key alone."""
    before, after = Config(store=Store(url="redis://:old@h:1/0")), Config(store=Store(url="redis://:new@h:1/0"))
    assert differences(before, after) == Reloaded(restart=("store.url",))


def test_each_problem_is_a_violation() -> None:
    """Field and text are those of the problem; a problem of no key is one of the file."""
    problems = [Problem("s.yml", 3, "log_level", "is none"), Problem("s.yml", None, "", "cannot be read")]
    error = refusal(ConfigError(problems))
    assert isinstance(error, InvalidArgument)
    assert error.reason == "INVALID_CONFIGURATION"
    assert sorted(error.violations) == [
        ("log_level", "s.yml:3: log_level: is none"),
        ("s.yml", "s.yml: cannot be read"),
    ]


def test_notes_are_no_keys() -> None:
    """What was remarked when the file was read is not part of the comparison."""
    noted = msgspec.structs.replace(Config(), notes=(Problem("s.yml", 1, "x", "odd"),))
    assert differences(Config(), noted) == Reloaded()
