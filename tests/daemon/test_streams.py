"""What the configuration says about stream sessions."""

import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from sessiond.core.profiles import BUILT_IN, Profile
from sessiond.daemon.config import ConfigError, load
from sessiond.daemon.settings import settings_of
from sessiond.daemon.streams import offsets_of

DAY_MS = 86_400_000
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes a configuration file."""

    def write_file(text: str) -> Path:
        path = tmp_path / "sessiond.yml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


def test_stream_sessions_are_kept_as_built_in(write: Write) -> None:
    """Without a word about it: seven days, and the newest 10,000 of each data source."""
    settings = settings_of(load(write("")))
    assert settings.profiles == BUILT_IN
    assert settings.profile("stream") == Profile(retention_after_end_ms=7 * DAY_MS, retention_newest=10_000)


@pytest.mark.parametrize(
    ("said", "profile"),
    [
        ("{retention_after_end_s: 60}", Profile(retention_after_end_ms=60_000)),
        ("{retention_newest: 5}", Profile(retention_newest=5)),
        ("{retention_newest: 0, retention_after_end_s: 0}", Profile(retention_after_end_ms=0, retention_newest=0)),
    ],
)
def test_a_file_says_how_long_sessions_are_kept(write: Write, said: str, profile: Profile) -> None:
    """What the file says is taken, the rest is as built in; 0 is no limit."""
    settings = settings_of(load(write(f"profiles: {{stream: {said}}}")))
    assert settings.profile("stream") == profile


def test_a_type_of_its_own_has_a_profile(write: Write) -> None:
    """A type that is not built in has the defaults of a profile where the file says nothing."""
    settings = settings_of(load(write("profiles: {kiosk: {retention_newest: 3}}")))
    assert settings.profile("kiosk") == Profile(retention_newest=3)
    assert settings.profile("stream") == Profile()


@pytest.mark.parametrize(
    ("said", "partitions", "streams"),
    [
        ("", [0], ()),
        ("PartitionMappings: [{Stream: A, Partition: 2}, {Stream: B, Partition: 1}]", [0, 2, 1], ("A", "B")),
        ("StreamCreationStrategy: 2, PartitionMappings: [{Stream: A, Partition: 2}]", [0], ()),
    ],
)
async def test_without_a_broker_offsets_are_configured(
    write: Write, said: str, partitions: list[int], streams: tuple[str, ...]
) -> None:
    """The two fixed keys and, where streams are partitions, one for each that is mapped: all of them 0."""
    path = write(f"stream_api: {{{said}}}")
    async with AsyncExitStack() as stack:
        known = offsets_of(load(path).stream_api, path, stack)
        offsets = await known.of("car")
        assert offsets.streams == streams == await known.streams("boat")
        wanted = {"car_essential:0": 0} | {f"car:{partition}": 0 for partition in partitions}
        assert offsets.by_partition == wanted
        await known.close()


async def test_a_broker_needs_its_client(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without aiokafka the operator is told what to install, and by which line it is needed."""
    monkeypatch.delitem(sys.modules, "sessiond.southbound.broker.kafka", raising=False)
    monkeypatch.setitem(sys.modules, "aiokafka", None)
    monkeypatch.setitem(sys.modules, "aiokafka.client", None)
    path = write("stream_api:\n  BrokerUrl: localhost:9092\n")
    async with AsyncExitStack() as stack:
        with pytest.raises(ConfigError, match=r"yml:2: stream_api\.BrokerUrl: needs the package aiokafka"):
            offsets_of(load(path).stream_api, path, stack)


async def test_a_broker_is_asked_once_it_is_needed(write: Write) -> None:
    """Nothing is connected at the start: a broker that is away keeps nobody from starting."""
    path = write("stream_api: {BrokerUrl: '127.0.0.1:9', PartitionMappings: [{Stream: A, Partition: 1}]}")
    async with AsyncExitStack() as stack:
        assert await offsets_of(load(path).stream_api, path, stack).streams("car") == ("A",)


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("PartitionMappings: [{Stream: A, Partition: 0}]", "expected a list such as"),
        ("PartitionMappings: [{Stream: A, Partition: 1, Topic: x}]", "expected a list such as"),
        ("PartitionMappings: [{Stream: A, Partition: 1}, {Stream: B, Partition: 1}]", "partition 1 is given twice"),
        ("PartitionMappings: [{Stream: A, Partition: 1}, {Stream: A, Partition: 2}]", "stream A is given twice"),
        ("StreamCreationStrategy: 3", "expected 1 (partitions) or 2 (topics)"),
        ("BrokerUrl: 'http://kafka'", "expected host:port of a Kafka broker"),
        ("BrokerUrl: 'a:1,'", "expected host:port of a Kafka broker"),
        ("notification_queue: 0", "expected a whole number, 1 to 1000000"),
    ],
)
def test_what_cannot_work_is_refused(write: Write, said: str, problem: str) -> None:
    """A mapping to partition 0, or two streams in one, would make every create fail: it is refused with its line."""
    with pytest.raises(ConfigError) as caught:
        load(write(f"stream_api:\n  {said}\n"))
    (found,) = caught.value.problems
    assert (found.line, problem in found.message) == (2, True)


def test_topics_without_a_broker_are_worth_a_note(write: Write) -> None:
    """Which topics there are is known to the broker only."""
    (note,) = load(write("stream_api: {StreamCreationStrategy: 2}")).notes
    assert "BrokerUrl" in note.message
    assert load(write("stream_api: {StreamCreationStrategy: 2, BrokerUrl: 'a:9092,b:9092'}")).notes == ()
