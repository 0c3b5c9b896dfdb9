"""sessiond.yml as a value: every key with its type, bounds and default, and the checks between keys.

The flat keys are those of a Magma gateway's sessiond.yml, same names, same defaults; the sections are ours. What a key
is for, and when to change it, is said to the user in `config/sessiond.yml`; a test holds that file against `Keys`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from sessiond.core.access import check_namespace
from sessiond.core.errors import InvalidArgument
from sessiond.daemon.addresses import are_peers, is_address, is_loopback, is_peer, is_redis_url, is_store_url
from sessiond.daemon.yaml_reader import Problem, Reader

DEFAULT_USAGE_REPORTING_THRESHOLD = 0.8


def _are_namespaces(names: tuple[str, ...]) -> bool:
    try:
        for name in names:
            check_namespace(f"{name[:-1]}x" if name.endswith("*") else name, "")
    except InvalidArgument:
        return False
    return True


_DAY_S, _TEN_YEARS_S = 86_400, 315_360_000

Address: TypeAlias = Annotated[
    str, Meta(description="an address such as 127.0.0.1:50065 or [::1]:50065", extra={"accepts": is_address})
]
Peer: TypeAlias = Annotated[
    str, Meta(description="host:port, such as 127.0.0.1:50065, or null", extra={"accepts": is_peer})
]
Brokers: TypeAlias = Annotated[
    str, Meta(description="host:port of a Kafka broker, or several with commas, or null", extra={"accepts": are_peers})
]
FileName: TypeAlias = Annotated[
    str, Meta(description="the name of a file, or null", extra={"path": True, "accepts": bool})
]
RedisUrl: TypeAlias = Annotated[
    str,
    # The URL may hold a password, so that it is never shown.
    Meta(description="redis://host:port/db, rediss://... or null", extra={"accepts": is_redis_url, "secret": True}),
]
StoreUrl: TypeAlias = Annotated[
    str,
    Meta(
        description="memory:, redis://host:port/db, rediss://..., redis+cluster://host:port or unix:///path",
        extra={"accepts": is_store_url, "secret": True},
    ),
]
Milliseconds: TypeAlias = Annotated[
    int, Meta(ge=0, le=_DAY_S * 1000, description="a whole number of milliseconds, 0 to 86400000 (a day)")
]
Seconds: TypeAlias = Annotated[int, Meta(ge=0, le=_DAY_S, description="a whole number of seconds, 0 to 86400 (a day)")]
Period: TypeAlias = Annotated[int, Meta(ge=1, le=_DAY_S, description="a whole number of seconds, 1 to 86400 (a day)")]
Lease: TypeAlias = Annotated[int, Meta(ge=1, le=300, description="a whole number of seconds, 1 to 300")]
RulePeriod: TypeAlias = Annotated[Period, Meta(extra={"also": "rule_update_inteval_sec"})]
LongSeconds: TypeAlias = Annotated[
    int, Meta(ge=0, le=_TEN_YEARS_S, description="a whole number of seconds, 0 (no limit) to 315360000 (ten years)")
]
Octets: TypeAlias = Annotated[int, Meta(ge=1, le=2**63 - 1, description="a whole number of bytes, 1 to 2^63 - 1")]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**63 - 1, description="a whole number, 0 (no limit) to 2^63 - 1")]
Sessions: TypeAlias = Annotated[int, Meta(ge=1, le=100_000, description="a whole number of sessions, 1 to 100000")]
MessageSize: TypeAlias = Annotated[
    int, Meta(ge=65_536, le=67_108_864, description="a whole number of bytes, 65536 (64 KiB) to 67108864 (64 MiB)")
]
Partition: TypeAlias = Annotated[int, Meta(ge=1, le=2**31 - 1)]
QueueLength: TypeAlias = Annotated[int, Meta(ge=1, le=1_000_000, description="a whole number, 1 to 1000000")]
Strategy: TypeAlias = Annotated[int, Meta(ge=1, le=2, description="1 (partitions) or 2 (topics)")]
Attempts: TypeAlias = Annotated[int, Meta(ge=0, le=100, description="a whole number, 0 to 100")]
LogLevel: TypeAlias = Literal["DEBUG", "INFO", "WARNING", "ERROR", "FATAL"]
Permission: TypeAlias = Literal[
    "execute_functions", "compose_functions", "read_across_sessions", "write_across_sessions"
]
Permissions: TypeAlias = Annotated[
    tuple[Permission, ...],
    Meta(description="a list of execute_functions, compose_functions, read_across_sessions, write_across_sessions"),
]


Names: TypeAlias = Annotated[tuple[str, ...], Meta(description="a list of names", extra={"accepts": all})]
NamespaceNames: TypeAlias = Annotated[
    tuple[str, ...],
    Meta(description="a list of namespaces, such as [billing, pay-*]", extra={"accepts": _are_namespaces}),
]
VariableName: TypeAlias = Annotated[
    str, Meta(description="the name of an environment variable, or null", extra={"accepts": str.isidentifier})
]


class Tls(msgspec.Struct, frozen=True):
    """The files of a TLS server; none of them: no TLS."""

    cert: FileName | None = None
    key: FileName | None = None
    client_ca: FileName | None = None


class Server(msgspec.Struct, frozen=True):
    """Where the gRPC services listen."""

    listen: Address = "127.0.0.1:50065"
    tls: Tls = Tls()
    insecure: bool = False
    reflection: bool = True


class CallerKeys(msgspec.Struct, frozen=True):
    """Who calls: how it is known, and the namespaces whose sessions it may change and read."""

    identities: Names = ()
    token_file: FileName | None = None
    namespaces: NamespaceNames = ()
    readable_namespaces: NamespaceNames = ()
    operator: bool = False


class NamespaceKeys(msgspec.Struct, frozen=True):
    """What a namespace may have."""

    sessions: Count = 0


class Access(msgspec.Struct, frozen=True):
    """Who may call our own API; None: open to everybody where the address is, and nobody is named."""

    open: bool | None = None
    callers: dict[str, CallerKeys] = {}
    namespaces: dict[str, NamespaceKeys] = {}


class Encryption(msgspec.Struct, frozen=True):
    """Where the keys are for what is sensitive in sessions."""

    keys_file: FileName | None = None
    keys_environment: VariableName | None = None


class Store(msgspec.Struct, frozen=True):
    """Where sessions are kept."""

    url: StoreUrl = "memory:"
    exclusive: bool = True
    lease_s: Lease = 5

    @property
    def in_memory(self) -> bool:
        """Whether a restart forgets the sessions."""
        return self.url == "memory:"


class Policies(msgspec.Struct, frozen=True):
    """Where the static rules come from."""

    file: FileName | None = None
    redis_url: RedisUrl | None = None


class Peers(msgspec.Struct, frozen=True):
    """The address of each peer; None: the peer is absent."""

    session_proxy: Peer | None = None
    pipelined: Peer | None = None
    spgw: Peer | None = None
    aaa: Peer | None = None
    directoryd: Peer | None = None
    eventd: Peer | None = None
    mobilityd: Peer | None = None
    mme: Peer | None = None


class Metrics(msgspec.Struct, frozen=True):
    """Where Prometheus finds the metrics; None: nowhere."""

    listen: Address | None = "127.0.0.1:9100"
    per_subscriber: bool = False


class PartitionMapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The partition of a stream in the main topic of every data source."""

    stream: str = msgspec.field(name="Stream")
    partition: Partition = msgspec.field(name="Partition")


PartitionMappings: TypeAlias = Annotated[
    tuple[PartitionMapping, ...],
    Meta(description="a list such as [{Stream: Stream1, Partition: 1}], partitions from 1 to 2147483647"),
]


class Watch(msgspec.Struct, frozen=True):
    """What those who watch sessions can rely on."""

    window: QueueLength = 10_000
    heartbeat_s: Period = 15


class StreamApi(msgspec.Struct, frozen=True):
    """The stream session service; the keys in capitals are those of the original."""

    integrate_session_management: bool = msgspec.field(default=True, name="IntegrateSessionManagement")
    stream_creation_strategy: Strategy = msgspec.field(default=1, name="StreamCreationStrategy")
    partition_mappings: PartitionMappings = msgspec.field(default=(), name="PartitionMappings")
    broker_url: Brokers | None = msgspec.field(default=None, name="BrokerUrl")
    notification_queue: QueueLength = 10_000

    @property
    def by_topic(self) -> bool:
        """Whether each stream has a topic, and not a partition, of its own."""
        return self.stream_creation_strategy == 2

    @property
    def partitions(self) -> dict[str, int]:
        """The partition of each stream."""
        return {mapping.stream: mapping.partition for mapping in self.partition_mappings}


class Quotas(msgspec.Struct, frozen=True):
    """Limits of one session; None: as in the built-in profile, 0: no limit."""

    executions: Count | None = None
    bytes: Count | None = None
    associates: Count | None = None
    data_bytes: Count | None = None


class ProfileSettings(msgspec.Struct, frozen=True):
    """Switches of one session; None: as in the built-in profile."""

    auto_expire: bool | None = None
    execution_logging: bool | None = None
    performance_monitoring: bool | None = None


class Profile(msgspec.Struct, frozen=True):
    """What the file says of one session type; None: as in the built-in profile."""

    ttl_s: LongSeconds | None = None
    idle_limit_s: LongSeconds | None = None
    maximum_duration_s: LongSeconds | None = None
    confirm_within_s: LongSeconds | None = None
    retention_after_end_s: LongSeconds | None = None
    retention_newest: Count | None = None
    key_rotation_interval_s: LongSeconds | None = None
    activate_within_s: LongSeconds | None = None
    resumption_age_s: LongSeconds | None = None
    permissions: Permissions | None = None
    quotas: Quotas = Quotas()
    settings: ProfileSettings = ProfileSettings()


class WalletExhaustDetection(msgspec.Struct, frozen=True):
    """Carrier wifi: what a session without monitored rules means."""

    terminate_on_exhaust: bool = False


class Keys(msgspec.Struct, frozen=True):
    """Every key of sessiond.yml, in the order of `config/sessiond.yml`."""

    server: Server = Server()
    access: Access = Access()
    store: Store = Store()
    encryption: Encryption = Encryption()
    policies: Policies = Policies()
    peers: Peers = Peers()
    metrics: Metrics = Metrics()
    watch: Watch = Watch()
    stream_api: StreamApi = StreamApi()
    profiles: dict[str, Profile] = {}
    log_level: LogLevel = "INFO"
    print_grpc_payload: bool = False
    gx_gy_relay_enabled: bool = False
    rule_update_interval_sec: RulePeriod = 1
    usage_reporting_threshold: float = DEFAULT_USAGE_REPORTING_THRESHOLD
    usage_report_max_sessions: Sessions = 500
    usage_report_max_bytes: MessageSize = 3_145_728
    default_requested_units: Octets = 10_000_000
    terminate_service_when_quota_exhausted: bool = True
    final_unit_scope: Literal["session", "rating_group"] = "session"
    quota_exhausted_grace_s: Seconds = 0
    session_force_termination_timeout_ms: Milliseconds = 5000
    cleanup_all_dangling_flows: bool = True
    send_access_timezone: bool = False
    support_stateless: bool = False
    sessions_table: str = "sessiond:sessions"
    support_carrier_wifi: bool = False
    enable_ipfix: bool = True
    cwf_quota_exhaustion_termination_on_init_ms: Milliseconds = 30_000
    wallet_exhaust_detection: WalletExhaustDetection = WalletExhaustDetection()
    enable_pull_stats: bool = False
    poll_stats_interval: Period = 5
    enable5g_features: bool = False
    session_rtx_count: Attempts = 3


class Config(Keys, frozen=True):
    """What was read: the value of every key, and what the operator should know though it is no error."""

    notes: tuple[Problem, ...] = ()


class ConfigError(Exception):
    """The file cannot be used; `problems` says all that is wrong with it, in the order of its lines."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line or 0))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def load(path: Path) -> Config:
    """Read the file; raise ConfigError with every problem in it. Names of files in it are relative to its folder."""
    reader = Reader(path)
    keys = reader.read(_text(path), Keys)
    contradictions = [(names, message) for names, message in _contradictions(keys) if reader.trusts(names)]
    for names, message in contradictions:
        reader.problem(reader.line(names), names[0], message)
    if reader.problems:
        raise ConfigError(reader.problems)
    values = {name: getattr(keys, name) for name in Keys.__struct_fields__}
    notes = tuple(Problem(str(path), reader.line((name,)), name, message) for name, message in _notes(keys))
    return Config(**values | {"usage_reporting_threshold": _usable_threshold(keys), "notes": notes})


def line_of(path: Path, key: str) -> int | None:
    """Return the line a key stands in, for an error that only shows when its value is used."""
    reader = Reader(path)
    reader.read(_text(path), Keys)
    return reader.line((key,))


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except OSError as error:
        raise ConfigError([Problem(str(path), None, "", f"cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError([Problem(str(path), line, "", "not YAML: not UTF-8 text")]) from error


def _contradictions(keys: Keys) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield what cannot be true together: the keys, the one to change first, and why."""
    yield from _memory_and_stateless(keys)
    yield from _open_to_the_network(keys.server)
    yield from _half_a_certificate(keys.server.tls)
    yield from _unreadable_certificate(keys.server.tls)
    yield from _shared_partitions(keys.stream_api)
    yield from _lives(keys.profiles)
    yield from _callers(keys)
    yield from _two_sources_of_keys(keys.encryption)


def _memory_and_stateless(keys: Keys) -> Iterator[tuple[tuple[str, ...], str]]:
    if keys.support_stateless and keys.store.in_memory:
        why = "true promises that sessions outlive a restart, which store.url memory: cannot keep"
        yield ("support_stateless", "store.url"), f"{why}; set store.url to a Redis, or this to false"


def _open_to_the_network(server: Server) -> Iterator[tuple[tuple[str, ...], str]]:
    if not (is_loopback(server.listen) or server.tls.cert or server.insecure):
        why = "others can reach this address and nothing is encrypted"
        yield (
            ("server.listen", "server.tls.cert", "server.insecure"),
            f"{why}; give server.tls, or say server.insecure: true",
        )


def _half_a_certificate(tls: Tls) -> Iterator[tuple[tuple[str, ...], str]]:
    for name, value in (("key", tls.key), ("client_ca", tls.client_ca)):
        if value and not tls.cert:
            yield (f"server.tls.{name}", "server.tls.cert"), "is given without server.tls.cert"
    if tls.cert and not tls.key:
        yield ("server.tls.cert", "server.tls.key"), "is given without server.tls.key"


def _unreadable_certificate(tls: Tls) -> Iterator[tuple[tuple[str, ...], str]]:
    for name in Tls.__struct_fields__:
        if file := getattr(tls, name):
            try:
                Path(file).read_bytes()
            except OSError as error:
                yield (f"server.tls.{name}",), f"{file} cannot be read: {error.strerror}"


def _shared_partitions(stream_api: StreamApi) -> Iterator[tuple[tuple[str, ...], str]]:
    for name in ("stream", "partition"):
        values = [getattr(mapping, name) for mapping in stream_api.partition_mappings]
        if twice := sorted({value for value in values if values.count(value) > 1}):
            yield ("stream_api.PartitionMappings",), f"{name} {twice[0]} is given twice"


def _lives(profiles: dict[str, Profile]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield times of a profile that no session can reach."""
    for name, profile in profiles.items():
        longest = profile.maximum_duration_s
        for key in ("ttl_s", "idle_limit_s", "confirm_within_s"):
            if longest and (getattr(profile, key) or 0) > longest:
                place = f"profiles.{name}"
                yield (f"{place}.{key}", f"{place}.maximum_duration_s"), f"is longer than {place}.maximum_duration_s"


def _callers(keys: Keys) -> Iterator[tuple[tuple[str, ...], str]]:
    for name, caller in keys.access.callers.items():
        path = f"access.callers.{name}"
        if not (caller.identities or caller.token_file):
            yield (f"{path}.namespaces", path), "nobody can be this caller: give identities or token_file"
        if caller.identities and not keys.server.tls.client_ca:
            yield (
                (f"{path}.identities", "server.tls.client_ca"),
                "nobody shows a certificate without server.tls.client_ca",
            )
    for name in keys.access.namespaces:
        if not _are_namespaces((name,)) or name.endswith("*"):
            yield (f"access.namespaces.{name}.sessions",), "is no namespace"


def _two_sources_of_keys(encryption: Encryption) -> Iterator[tuple[tuple[str, ...], str]]:
    if encryption.keys_file and encryption.keys_environment:
        yield ("encryption.keys_environment", "encryption.keys_file"), "is given beside encryption.keys_file"


def is_closed(keys: Keys) -> bool:
    """Whether our own API is for callers only that are named.

    If nobody says so, it is as soon as a caller is named, and where others reach it of whom nothing is known: neither a
    certificate of an authority we trust, nor that the network keeps them out.
    """
    if keys.access.open is not None:
        return not keys.access.open
    server = keys.server
    kept_out = is_loopback(server.listen) or server.insecure or server.tls.client_ca is not None
    return bool(keys.access.callers) or not kept_out


def _usable_threshold(keys: Keys) -> float:
    """Return the threshold if it is between 0.4 and 1.0, else 0.8, as a Magma gateway does."""
    given = keys.usage_reporting_threshold
    return given if 0.4 < given < 1.0 else DEFAULT_USAGE_REPORTING_THRESHOLD


def _notes(keys: Keys) -> Iterator[tuple[str, str]]:
    """Yield what is allowed but not what it seems to say."""
    given, used = keys.usage_reporting_threshold, _usable_threshold(keys)
    if given != used:
        yield "usage_reporting_threshold", f"{given} is not between 0.4 and 1.0; {used} is used"
    if not (keys.support_stateless or keys.store.in_memory):
        yield "store.url", "sessions are kept there, although support_stateless is not true"
    if keys.stream_api.by_topic and keys.stream_api.broker_url is None:
        yield "stream_api.StreamCreationStrategy", "without stream_api.BrokerUrl the topics of streams are not known"
    if is_closed(keys) and not keys.access.callers:
        yield "access.callers", "nobody can use sessiond.v1: name callers, or say access.open: true"
    if any(caller.token_file for caller in keys.access.callers.values()) and not keys.server.tls.cert:
        yield "access.callers", "tokens are shown to whoever listens on the way; give server.tls"
    if keys.enable5g_features:
        yield "enable5g_features", "5G sessions are not served by this version"
