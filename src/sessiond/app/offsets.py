"""Offsets without a broker: the partitions that are configured, all of them empty."""

from collections.abc import Mapping

from sessiond.core.decide.streams import Offsets, partition_key, topics_of


class ConfiguredOffsets:
    """Implements `app.ports.offsets.StreamOffsets` with a partition for each stream, equal for every data source."""

    def __init__(self, partitions: Mapping[str, int]) -> None:
        self._partitions = partitions

    async def of(self, data_source: str) -> Offsets:
        """Return 0 for the main topic, the essentials, and the partition of each stream."""
        main, essentials = topics_of(data_source)
        fixed = (partition_key(main, 0), partition_key(essentials, 0))
        mapped = (partition_key(main, partition) for partition in self._partitions.values())
        return Offsets(dict.fromkeys((*fixed, *mapped), 0), tuple(self._partitions))

    async def streams(self, data_source: str) -> tuple[str, ...]:
        """Return the streams that are configured."""
        del data_source
        return tuple(self._partitions)

    async def close(self) -> None:
        """Do nothing: there is nothing to let go of."""
