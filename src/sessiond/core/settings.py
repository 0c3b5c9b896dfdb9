"""What an operator decides about charging and enforcement; the defaults are those of sessiond.yml."""

from msgspec import Struct


class Settings(Struct, frozen=True, kw_only=True):
    """The settings that decisions depend on."""

    usage_reporting_threshold: float = 0.8
    terminate_service_when_quota_exhausted: bool = True
    session_force_termination_timeout_ms: int = 5000
    policy_deadline_ms: int = 6000
