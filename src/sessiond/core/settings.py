"""What an operator decides about charging and enforcement; the defaults are those of sessiond.yml."""

from collections.abc import Mapping

from msgspec import Struct, field

from sessiond.core.profiles import BUILT_IN, Profile


class Settings(Struct, frozen=True, gc=False, kw_only=True):
    """The settings that decisions depend on."""

    usage_reporting_threshold: float = 0.8
    terminate_service_when_quota_exhausted: bool = True
    session_force_termination_timeout_ms: int = 5000
    policy_deadline_ms: int = 6000
    usage_report_max_sessions: int = 500
    usage_report_max_bytes: int = 3 * 2**20
    """How much goes into one request to the policy side; a gRPC peer takes 4 MiB if it is not told otherwise."""
    final_unit_blocks_rating_group_only: bool = False
    quota_exhausted_grace_ms: int = 0
    """How long traffic goes on without quota while the OCS is silent; 0: for ever."""
    wallet_exhaustion_terminates: bool = False
    """Carrier wifi: a session without any monitored rule has nothing left to spend, and ends."""
    wallet_exhaustion_on_init_ms: int = 30_000
    ipfix: bool = False
    sessions_of_namespaces: Mapping[str, int] = {}
    """How many sessions that have not ended a namespace may have; one that is not there has no limit."""
    profiles: Mapping[str, Profile] = field(default_factory=lambda: BUILT_IN)
    """How sessions of a type behave, by type; a type that is not there behaves as `Profile()` says."""

    def profile(self, session_type: str) -> Profile:
        """Return how sessions of this type behave."""
        return self.profiles.get(session_type) or Profile()
