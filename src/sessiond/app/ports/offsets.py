"""The offsets port: where in the broker the data of a data source goes on."""

from typing import Protocol

from sessiond.core.decide.streams import Offsets


class StreamOffsets(Protocol):
    """Who knows the topics and partitions of data sources; raises `core.errors.PeerFailed` if nobody answers."""

    async def of(self, data_source: str) -> Offsets:
        """Return the offset of the next record in each partition of a data source, and its streams."""
        ...

    async def streams(self, data_source: str) -> tuple[str, ...]:
        """Return the names of the streams that a data source has now."""
        ...

    async def close(self) -> None:
        """Let go of what is held."""
        ...
