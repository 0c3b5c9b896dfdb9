"""What stream sessions depend on in the configuration: where their offsets come from."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from sessiond.app.offsets import ConfiguredOffsets
from sessiond.app.ports.offsets import StreamOffsets
from sessiond.daemon import config
from sessiond.daemon.yaml_reader import Problem

KEY: Final = "stream_api.BrokerUrl"
DEADLINE_MS: Final = 5000
"""How long the broker may take to answer; who creates or ends a session waits for it."""


def offsets_of(stream_api: config.StreamApi, path: Path, stack: AsyncExitStack) -> StreamOffsets:
    """Return who knows the offsets: the broker or, without one, the configuration; the stack closes it."""
    partitions = None if stream_api.by_topic else stream_api.partitions
    if stream_api.broker_url is None:
        return ConfiguredOffsets(partitions or {})
    try:
        # The client of Kafka is an extra that a daemon without a broker does not need.
        from sessiond.southbound.broker.kafka import KafkaOffsets  # noqa: PLC0415
    except ImportError as error:
        text = "needs the package aiokafka: install sessiond[kafka]"
        raise config.ConfigError([Problem(str(path), config.line_of(path, KEY), KEY, text)]) from error
    offsets = KafkaOffsets(stream_api.broker_url, DEADLINE_MS, partitions)
    stack.push_async_callback(offsets.close)
    return offsets
