"""What a configuration that is read again changes: some keys at once, all others with the next start."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from sessiond.core.errors import InvalidArgument
from sessiond.daemon.config import Config, ConfigError, Keys
from sessiond.northbound.operations import Reloaded

LIVE: Final = frozenset({
    "access",
    "encryption",
    "profiles",
    "log_level",
    "rule_update_interval_sec",
    "usage_reporting_threshold",
    "usage_report_max_sessions",
    "usage_report_max_bytes",
    "terminate_service_when_quota_exhausted",
    "session_force_termination_timeout_ms",
    "final_unit_scope",
    "quota_exhausted_grace_s",
    "wallet_exhaust_detection",
    "cwf_quota_exhaustion_termination_on_init_ms",
    "enable_ipfix",
})  # fmt: skip
"""The keys and sections whose new value is in force at once."""


def differences(in_force: Config, read: Config) -> Reloaded:
    """Return the keys that were read with another value than is in force."""
    before, after = dict(_leaves(in_force)), dict(_leaves(read))
    changed = [key for key in (before | after) if before.get(key) != after.get(key)]
    return Reloaded(
        changed=tuple(key for key in changed if key.partition(".")[0] in LIVE),
        restart=tuple(key for key in changed if key.partition(".")[0] not in LIVE),
    )


def taken_over(in_force: Config, read: Config) -> Config:
    """Return what is in force after a configuration was read."""
    return msgspec.structs.replace(in_force, **{key: getattr(read, key) for key in LIVE})


def refusal(error: ConfigError) -> InvalidArgument:
    """Return a configuration that cannot be used as an error of who wants it used: one violation for each problem."""
    violations = [(problem.key or problem.file, str(problem)) for problem in error.problems]
    return InvalidArgument("INVALID_CONFIGURATION", str(error), violations=violations)


def _leaves(config: Config) -> Iterator[tuple[str, Any]]:
    """Yield every key as the file has it, with its value."""
    for name in Keys.__struct_fields__:
        yield from _below(name, msgspec.to_builtins(getattr(config, name)))


def _below(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _below(f"{path}.{name}", inner)
    else:
        yield path, value
