"""The configuration file: what is accepted, and that every mistake in it is named with its line."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from sessiond.daemon.addresses import split_address
from sessiond.daemon.config import Config, ConfigError, Keys, Quotas, load
from sessiond.daemon.yaml_reader import Problem

Write: TypeAlias = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes a configuration file and returns its name."""

    def _write(text: str | bytes) -> Path:
        file = tmp_path / "sessiond.yml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return _write


def problems(file: Path) -> list[Problem]:
    """Return what is wrong with the file."""
    with pytest.raises(ConfigError) as caught:
        load(file)
    return list(caught.value.problems)


def only(file: Path) -> Problem:
    """Return the one thing that is wrong with the file."""
    (problem,) = problems(file)
    return problem


class TestAccepted:
    """Files that are right."""

    @pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "server:\nstore: {}\npeers: null\n"])
    def test_an_empty_file_or_section_gives_the_defaults(self, write: Write, text: str) -> None:
        """What is not said has its default."""
        assert load(write(text)) == Config()

    def test_values_are_taken(self, write: Write) -> None:
        """Each kind of value arrives: text, number, switch, section, nothing."""
        text = (
            'server: {listen: "[::1]:0"}\nstore: {url: "redis://:secret@127.0.0.1:6379/15", exclusive: false}\n'
            "support_stateless: true\npeers: {session_proxy: fegproxy.local:9097, mme: null}\nlog_level: DEBUG\n"
            "usage_reporting_threshold: 0.5\nmetrics: {listen: null}\ndefault_requested_units: 200000\n"
        )
        config = load(write(text))
        assert (config.server.listen, config.store.exclusive, config.store.in_memory) == ("[::1]:0", False, False)
        assert (config.peers.session_proxy, config.peers.mme) == ("fegproxy.local:9097", None)
        assert (config.log_level, config.usage_reporting_threshold, config.metrics.listen) == ("DEBUG", 0.5, None)
        assert (config.default_requested_units, config.notes) == (200_000, ())

    def test_a_file_made_of_json_values_is_yaml_too(self, write: Write) -> None:
        """Tools may write the file with a JSON value per key."""
        config = load(write('"server": {"listen": "127.0.0.1:1"}\ncleanup_all_dangling_flows: false\n'))
        assert (config.server.listen, config.cleanup_all_dangling_flows) == ("127.0.0.1:1", False)

    @pytest.mark.parametrize("key", ["rule_update_interval_sec", "rule_update_inteval_sec"])
    def test_both_spellings_of_the_rule_interval_are_understood(self, write: Write, key: str) -> None:
        """Magma misspelt the key; its files keep working."""
        assert load(write(f"{key}: 15\n")).rule_update_interval_sec == 15

    def test_both_spellings_may_agree(self, write: Write) -> None:
        """Saying the same twice in two spellings is no contradiction."""
        text = "rule_update_interval_sec: 15\nrule_update_inteval_sec: 15\n"
        assert load(write(text)).rule_update_interval_sec == 15

    def test_the_stream_switch_keeps_its_name(self, write: Write) -> None:
        """IntegrateSessionManagement is spelt as in the stream service's own configuration."""
        config = load(write("stream_api: {IntegrateSessionManagement: false}"))
        assert not config.stream_api.integrate_session_management

    def test_profiles_are_named_freely(self, write: Write) -> None:
        """A profile may be for any session type, and says only what differs from the built-in one."""
        text = "profiles: {kiosk: {ttl_s: 60, permissions: [execute_functions], quotas: {executions: 5}}}"
        profile = load(write(text)).profiles["kiosk"]
        assert (profile.ttl_s, profile.idle_limit_s) == (60, None)
        assert (profile.permissions, profile.quotas) == (("execute_functions",), Quotas(executions=5))

    def test_file_names_are_relative_to_the_configuration(self, write: Write, tmp_path: Path) -> None:
        """The daemon may be started from anywhere; an absolute name stays as it is."""
        assert load(write("policies: {file: rules/all.json}")).policies.file == str(tmp_path / "rules/all.json")
        assert load(write("policies: {file: /etc/rules.json}")).policies.file == "/etc/rules.json"

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "[::1]", "localhost"])
    def test_loopback_needs_no_encryption(self, write: Write, host: str) -> None:
        """Nobody else can reach a loopback address."""
        assert load(write(f'server: {{listen: "{host}:50065"}}')).server.listen == f"{host}:50065"

    def test_an_open_address_is_allowed_with_tls_or_insecure(self, write: Write, tmp_path: Path) -> None:
        """An address that others can reach needs TLS, or the operator's word that none is wanted."""
        (tmp_path / "a.pem").write_text("certificate", encoding="ascii")
        assert load(write("server: {listen: 0.0.0.0:1, insecure: true}")).server.insecure
        tls = load(write("server: {listen: 0.0.0.0:1, tls: {cert: a.pem, key: a.pem, client_ca: a.pem}}")).server.tls
        assert tls.cert == tls.key == tls.client_ca == str(tmp_path / "a.pem")

    @pytest.mark.parametrize(
        "url",
        [
            "redis://h:6379/0",
            "redis://h",
            "rediss://user:word@h:6380/1?ssl_cert_reqs=none",
            "redis+cluster://h:7000",
            "rediss+cluster://h:7000",
            "unix:///run/redis.sock?db=1",
        ],
    )
    def test_every_kind_of_store_is_accepted(self, write: Write, url: str) -> None:
        """Redis over TCP, TLS, a cluster, or a socket."""
        assert load(write(f"store: {{url: '{url}'}}\nsupport_stateless: true")).store.url == url


class TestNotes:
    """What is allowed, but not what it seems to say."""

    @pytest.mark.parametrize("given", ["0.4", "1.0", "1", "0", "-3", ".nan", ".inf"])
    def test_a_threshold_out_of_range_becomes_the_default(self, write: Write, given: str) -> None:
        """As in a Magma gateway, 0.8 is used; but the operator is told."""
        config = load(write(f"\nusage_reporting_threshold: {given}\n"))
        assert config.usage_reporting_threshold == 0.8
        (note,) = config.notes
        assert (note.line, note.key) == (2, "usage_reporting_threshold")
        assert note.message.endswith("is not between 0.4 and 1.0; 0.8 is used")

    def test_a_redis_without_support_stateless_is_used_all_the_same(self, write: Write) -> None:
        """The URL decides where sessions are kept, so that none is lost by a forgotten switch."""
        (note,) = load(write("store: {url: 'redis://h:1'}")).notes
        assert (note.key, note.line) == ("store.url", 1)

    def test_5g_is_accepted_and_said_not_to_be_served(self, write: Write) -> None:
        """A gateway's file with the 5G switch on does not stop the daemon."""
        (note,) = load(write("enable5g_features: true")).notes
        assert note.message == "5G sessions are not served by this version"


class TestUnreadable:
    """Files that cannot be read as YAML at all."""

    def test_an_absent_file_is_named(self, tmp_path: Path) -> None:
        """The message has the name of the file and the reason."""
        assert str(only(tmp_path / "no.yml")) == f"{tmp_path}/no.yml: cannot be read: No such file or directory"

    def test_a_folder_is_not_a_file(self, tmp_path: Path) -> None:
        """A folder in place of the file is a reading error, not a crash."""
        assert only(tmp_path).message == "cannot be read: Is a directory"

    @pytest.mark.parametrize(
        ("text", "line", "message"),
        [
            ("log_level: INFO\npeers: [", 2, "not YAML: "),
            ("a: 1\n b: 2\n", 2, "not YAML: mapping values are not allowed here"),
            ("log_level: INFO\nx: \x01\n", 2, "not YAML: the character number 1 is not allowed"),
            ("log_level: INFO\n---\nlog_level: INFO\n", 2, "not YAML: expected a single document"),
            (b"log_level: INFO\nx: \xff\n", 2, "not YAML: not UTF-8 text"),
            ("a: *nowhere", 1, "not YAML: found undefined alias"),
            ("[" * 5000, None, "not YAML that can be read: nested too deeply"),
        ],
    )
    def test_bad_yaml_is_shown_with_its_line(
        self, write: Write, text: str | bytes, line: int | None, message: str
    ) -> None:
        """The line is where the reader stopped."""
        problem = only(write(text))
        assert problem.line == line
        assert problem.message.startswith(message)

    @pytest.mark.parametrize(("text", "found"), [("- a\n", "a list"), ("just text", 'the text "just text"')])
    def test_the_document_must_have_keys(self, write: Write, text: str, found: str) -> None:
        """A list or a text is not a configuration."""
        assert only(write(text)).message == f"expected keys with values, found {found}"


class TestKeys:
    """Keys that are not keys, or are there twice."""

    @pytest.mark.parametrize(
        ("text", "key", "suggestion"),
        [
            ("log_levle: INFO", "log_levle", "log_level"),
            ("server: {lisen: '127.0.0.1:1'}", "server.lisen", "server.listen"),
            ("server: {tls: {certt: x}}", "server.tls.certt", "server.tls.cert"),
            ("cert: x", "cert", "server.tls.cert"),
            ("stream_api: {integrateSessionManagement: true}", None, "stream_api.IntegrateSessionManagement"),
            ("profiles: {ussd: {ttl: 3}}", "profiles.ussd.ttl", "profiles.ussd.ttl_s"),
            ("zzz: 1", "zzz", None),
            ("notes: []", "notes", None),
            ("peers: {<<: {mme: null}}", "peers.<<", None),
        ],
    )
    def test_an_unknown_key_is_refused(self, write: Write, text: str, key: str | None, suggestion: str | None) -> None:
        """A near miss is suggested, also from the section where the key belongs."""
        problem = only(write("\n" + text))
        assert (problem.line, problem.message, problem.suggestion) == (2, "unknown key", suggestion)
        assert problem.key == key or key is None

    def test_the_message_reads_as_a_line(self, write: Write, tmp_path: Path) -> None:
        """A problem is printed as file, line, key, what is wrong, what was meant."""
        expected = f"{tmp_path}/sessiond.yml:1: log_levle: unknown key; did you mean log_level?"
        assert str(only(write("log_levle: INFO"))) == expected

    def test_a_key_given_twice_is_refused(self, write: Write) -> None:
        """YAML libraries take the last one silently; we do not."""
        problem = only(write("log_level: INFO\nenable_ipfix: true\nlog_level: DEBUG\n"))
        assert (problem.line, problem.key, problem.message) == (3, "log_level", "given twice, first in line 1")

    def test_a_key_given_twice_within_a_section_is_refused(self, write: Write) -> None:
        """The same holds inside sections and free mappings."""
        text = "peers:\n  mme: 'a:1'\n  mme: 'b:1'\nprofiles:\n  a: {}\n  a: {}\n"
        assert [(problem.line, problem.key) for problem in problems(write(text))] == [
            (3, "peers.mme"),
            (6, "profiles.a"),
        ]

    def test_the_two_spellings_may_not_disagree(self, write: Write) -> None:
        """Two values for one setting: neither is taken silently."""
        problem = only(write("rule_update_inteval_sec: 1\nrule_update_interval_sec: 2\n"))
        assert (problem.line, problem.message) == (2, "2 here, but 1 under its other spelling")

    def test_a_key_must_be_text(self, write: Write) -> None:
        """A list as a key is YAML, but no configuration."""
        assert only(write("? [a]\n: b\n")).message == "a key must be text, found a list"


class TestValues:
    """Values of the wrong type, or out of bounds."""

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("enable_ipfix: 1", "expected true or false, found 1"),
            ('enable_ipfix: "true"', 'expected true or false, found the text "true"'),
            ("enable_ipfix:", "expected true or false, found nothing"),
            ("enable_ipfix: [true]", "expected true or false, found a list"),
            ("enable_ipfix: !odd x", "expected true or false, found x"),
            ("session_rtx_count: true", "expected a whole number, 0 to 100, found true"),
            ("session_rtx_count: 101", "expected a whole number, 0 to 100, found 101"),
            ("session_rtx_count: 1.5", "expected a whole number, 0 to 100, found 1.5"),
            ("usage_reporting_threshold: high", 'expected a number, found the text "high"'),
            ("sessions_table: 5", "expected text, found 5"),
            ("sessions_table: {a: b}", "expected text, found keys with values"),
            ("peers: 5", "expected keys with values, found 5"),
            ("log_level: LOUD", 'expected one of DEBUG, INFO, WARNING, ERROR, FATAL, found the text "LOUD"'),
            ("poll_stats_interval: 0", "expected a whole number of seconds, 1 to 86400 (a day), found 0"),
            ("rule_update_inteval_sec: 0", "expected a whole number of seconds, 1 to 86400 (a day), found 0"),
            ("quota_exhausted_grace_s: -1", "expected a whole number of seconds, 0 to 86400 (a day), found -1"),
            ("default_requested_units: 0", "expected a whole number of bytes, 1 to 2^63 - 1, found 0"),
            (
                "session_force_termination_timeout_ms: 1e9",
                'expected a whole number of milliseconds, 0 to 86400000 (a day), found the text "1e9"',
            ),
            (
                "default_requested_units: 1" + "0" * 30,
                "expected a whole number of bytes, 1 to 2^63 - 1, found 1" + "0" * 30,
            ),
            ("profiles: {a: {permissions: [fly]}}", "expected a list of execute_functions, compose_functions, "),
            ("policies: {file: ''}", 'expected the name of a file, or null, found the text ""'),
        ],
    )
    def test_a_wrong_value_is_refused(self, write: Write, text: str, expected: str) -> None:
        """The message says in words what is expected and what was found."""
        problem = only(write("\n\n" + text))
        assert problem.line == 3
        assert problem.message.startswith(expected)

    def test_a_near_choice_is_suggested(self, write: Write) -> None:
        """A choice in the wrong case, or misspelt, is understood but not taken."""
        assert only(write("log_level: warn")).suggestion == "WARNING"

    @pytest.mark.parametrize(
        "address", ["10.0.0.1", "h:", ":50065", "h:x", "h:65536", "::1:5", "http://h:1", "h:1/x", "5"]
    )
    def test_an_address_is_host_and_port(self, write: Write, address: str) -> None:
        """Peers and listeners are host:port, an IPv6 host in brackets."""
        text = f"peers: {{mme: '{address}'}}\nserver: {{listen: '{address}'}}\nmetrics: {{listen: '{address}'}}\n"
        assert [problem.key for problem in problems(write(text))] == ["peers.mme", "server.listen", "metrics.listen"]

    def test_a_peer_has_a_port(self, write: Write) -> None:
        """Port 0 means any free port, which only a listener can use."""
        assert only(write("peers: {mme: 'h:0'}")).key == "peers.mme"

    @pytest.mark.parametrize("url", ["redis", "memory", "http://h", "redis://", "redis://h/x", "redis:// h"])
    def test_a_store_is_a_known_url(self, write: Write, url: str) -> None:
        """The kinds of store are listed; the URL itself is not repeated, for it may hold a password."""
        problem = only(write(f"support_stateless: true\nstore: {{url: '{url}'}}"))
        assert (problem.key, problem.line) == ("store.url", 2)
        assert "found" not in problem.message


class TestContradictions:
    """Values that are right each, but not together."""

    def test_memory_is_not_stateless(self, write: Write) -> None:
        """A promise the store cannot keep is refused, with the way out."""
        problem = only(write("enable_ipfix: true\nsupport_stateless: true\n"))
        assert (problem.line, problem.key) == (2, "support_stateless")
        assert problem.message == (
            "true promises that sessions outlive a restart, which store.url memory: cannot keep; "
            "set store.url to a Redis, or this to false"
        )

    @pytest.mark.parametrize("key", ["ttl_s", "idle_limit_s", "confirm_within_s"])
    def test_no_time_of_a_profile_is_longer_than_its_sessions(self, write: Write, key: str) -> None:
        """A session would be over before that time comes."""
        problem = only(write(f"profiles:\n  kiosk:\n    maximum_duration_s: 60\n    {key}: 61"))
        assert (problem.line, problem.key) == (4, f"profiles.kiosk.{key}")
        assert problem.message == "is longer than profiles.kiosk.maximum_duration_s"

    @pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "10.1.2.3", "gateway.example"])
    def test_an_open_address_needs_encryption(self, write: Write, host: str) -> None:
        """Calls would cross the network in clear."""
        problem = only(write(f"server:\n  listen: '{host}:50065'"))
        assert (problem.line, problem.key) == (2, "server.listen")
        assert "server.insecure: true" in problem.message

    @pytest.mark.parametrize(
        ("tls", "key", "message"),
        [
            ("cert: a.pem", "cert", "is given without server.tls.key"),
            ("key: a.pem", "key", "is given without server.tls.cert"),
            ("client_ca: a.pem", "client_ca", "is given without server.tls.cert"),
        ],
    )
    def test_tls_needs_both_files(self, write: Write, tmp_path: Path, tls: str, key: str, message: str) -> None:
        """Half a certificate does not encrypt."""
        (tmp_path / "a.pem").write_text("certificate", encoding="ascii")
        problem = only(write(f"server: {{tls: {{{tls}}}}}"))
        assert (problem.key, problem.message) == (f"server.tls.{key}", message)

    def test_tls_files_must_be_readable(self, write: Write, tmp_path: Path) -> None:
        """Each file that is not there is named."""
        found = [problem.message for problem in problems(write("server:\n  tls: {cert: a, key: b}"))]
        assert found == [f"{tmp_path / name} cannot be read: No such file or directory" for name in "ab"]

    @pytest.mark.parametrize(
        "text",
        [
            "support_stateless: true\nstore: {ulr: 'redis://h:1'}",
            "support_stateless: true\nstore: {url: 5}",
            "support_stateless: true\nstore: 5",
            "support_stateless: maybe",
            "server: {listen: '0.0.0.0:1', insecur: true}",
        ],
    )
    def test_a_mistake_is_reported_once(self, write: Write, text: str) -> None:
        """What follows only from another mistake is not reported beside it."""
        assert only(write(text)).message != ""


def test_everything_wrong_is_reported_in_the_order_of_lines(write: Write) -> None:
    """One look at the output is enough to mend the whole file."""
    text = (
        "sever: {}\nenable_ipfix: 1\nsupport_stateless: true\npeers:\n  mme: nowhere\n  spwg: 'h:1'\n"
        "server: {listen: '0.0.0.0:1'}\nlog_level: LOUD\n"
    )
    found = [(problem.line, problem.key) for problem in problems(write(text))]
    assert found == [
        (1, "sever"),
        (2, "enable_ipfix"),
        (3, "support_stateless"),
        (5, "peers.mme"),
        (6, "peers.spwg"),
        (8, "log_level"),
    ]


def test_split_address_takes_the_brackets_off() -> None:
    """What binds a socket wants a bare IPv6 address."""
    assert split_address("[::1]:50065") == ("::1", 50065)
    with pytest.raises(ValueError, match="not host:port: nowhere"):
        split_address("nowhere")


def test_config_is_the_keys_and_the_notes() -> None:
    """Nothing else than notes is added to what the file can say."""
    assert Config.__struct_fields__ == (*Keys.__struct_fields__, "notes")
