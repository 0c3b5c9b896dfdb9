"""What stream sessions depend on in the configuration: where their offsets come from, and how long they are kept."""

from contextlib import AsyncExitStack

from msgspec import structs

from sessiond.app.offsets import ConfiguredOffsets
from sessiond.app.ports.offsets import StreamOffsets
from sessiond.core.profiles import BUILT_IN, Profile
from sessiond.daemon import config


def offsets_of(stream_api: config.StreamApi, stack: AsyncExitStack) -> StreamOffsets:
    """Return who knows the offsets: the broker or, without one, the configuration; the stack closes it."""
    del stack
    return ConfiguredOffsets({} if stream_api.by_topic else stream_api.partitions)


def profiles_of(keys: config.Keys) -> dict[str, Profile]:
    """Return how sessions behave, by type: as built in, but for what the file says."""
    types = BUILT_IN.keys() | keys.profiles.keys()
    return {name: _profile(BUILT_IN.get(name, Profile()), keys.profiles.get(name, config.Profile())) for name in types}


def _profile(built_in: Profile, said: config.Profile) -> Profile:
    profile = built_in
    if said.retention_after_end_s is not None:
        profile = structs.replace(profile, retention_after_end_ms=said.retention_after_end_s * 1000)
    if said.retention_newest is not None:
        profile = structs.replace(profile, retention_newest=said.retention_newest)
    return profile
