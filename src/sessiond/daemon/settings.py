"""What the configuration means to decisions."""

from sessiond.core.settings import Settings
from sessiond.daemon.config import Config
from sessiond.daemon.profiles import profiles_of


def settings_of(config: Config) -> Settings:
    """Return what decisions depend on; every key that is read here is in force as soon as it is read again."""
    return Settings(
        usage_reporting_threshold=config.usage_reporting_threshold,
        terminate_service_when_quota_exhausted=config.terminate_service_when_quota_exhausted,
        session_force_termination_timeout_ms=config.session_force_termination_timeout_ms,
        usage_report_max_sessions=config.usage_report_max_sessions,
        usage_report_max_bytes=config.usage_report_max_bytes,
        final_unit_blocks_rating_group_only=config.final_unit_scope == "rating_group",
        quota_exhausted_grace_ms=config.quota_exhausted_grace_s * 1000,
        wallet_exhaustion_terminates=config.wallet_exhaust_detection.terminate_on_exhaust,
        wallet_exhaustion_on_init_ms=config.cwf_quota_exhaustion_termination_on_init_ms,
        ipfix=config.enable_ipfix,
        sessions_of_namespaces={
            name: keys.sessions for name, keys in config.access.namespaces.items() if keys.sessions
        },
        profiles=profiles_of(config),
    )
