"""Making: what a client wants of a new session is held against what the client, and a session it acts for, may have."""

from collections.abc import Mapping
from typing import Final

from msgspec import structs

from sessiond.app.callers import caller, check_writing
from sessiond.app.keys import Keys
from sessiond.app.lineage import Lineage
from sessiond.app.ports.store import Store
from sessiond.app.secrets import Secrets
from sessiond.core.access import (
    DEFAULT_NAMESPACE,
    Access,
    Isolation,
    Permissions,
    Quota,
    check_association,
    check_delegation,
    check_depth,
    check_isolation_wanted,
    check_namespace,
    check_quotas_delegated,
    check_quotas_wanted,
    meet,
)
from sessiond.core.callers import EVERYBODY, check_creation, home
from sessiond.core.decide.executions import check_active
from sessiond.core.decide.native import NewSession
from sessiond.core.errors import InvalidArgument, NotFound
from sessiond.core.keys import Handshake, KeyMaterial, check_peer, check_session_id, derived
from sessiond.core.profiles import Profile
from sessiond.core.situation import Situation

PEER: Final = "peer"


class Making:
    """Turns what a client wants into what it gets."""

    def __init__(self, store: Store, secrets: Secrets, keys: Keys) -> None:
        self._store = store
        self._lineage = Lineage(store)
        self._secrets = secrets
        self._keys = keys

    def agreed(self, key: str, handshake: Handshake) -> tuple[str, KeyMaterial]:
        """Return the key and the secret of a session between nodes that have shaken hands."""
        agreed_key, material = derived(handshake)
        if key not in {"", agreed_key}:
            text = f"the nodes have agreed on the key {agreed_key}"
            raise InvalidArgument("INVALID_CONFIGURATION", text, field="session.key")
        return agreed_key, material

    async def prepared(
        self, key: str, wanted: NewSession, profile: Profile, handshake: Handshake | None, at: Situation
    ) -> NewSession:
        """Return what a new session gets; what it may not have is refused."""
        if wanted.isolation is not None:
            check_isolation_wanted(wanted.isolation)
        if wanted.quotas:
            check_quotas_wanted(wanted.quotas)
        if wanted.type == PEER:
            check_session_id(key, "session.key")
        if wanted.peer is not None:
            check_peer(wanted.peer.node_id, handshake)
        if wanted.parent:
            wanted = await self._delegated(wanted, profile, at)
        await self._check_associates(wanted, profile)
        if handshake is not None:
            _, material = derived(handshake)
            wanted = structs.replace(wanted, secret=self._keys.agreed(key, material, wanted.type, at))
        return self._secrets.sealed_new(key, wanted)

    async def _check_associates(self, wanted: NewSession, profile: Profile) -> None:
        """Refuse to tie a session with a barrier to one that has more."""
        access = _own(wanted, profile)
        for key in wanted.associates if access.isolation.barrier else ():
            stored = await self._store.get(key)
            check_association(access, (stored and stored.session.access) or Access())

    async def _delegated(self, wanted: NewSession, profile: Profile, at: Situation) -> NewSession:
        """Return what a session gets that acts for another one: what it wants, as far as the other has it."""
        stored = await self._store.get(wanted.parent)
        if stored is None or stored.session.record is None:
            raise NotFound("SESSION_NOT_FOUND", f"there is no session {wanted.parent}")
        check_writing(stored.session)
        place = await self._lineage.acting(stored.session, at.now_ms)
        check_active(stored.session.key, stored.session.head.state)
        check_depth(len(place.above) + 1)
        limit = place.access
        for above in place.above:
            limit = meet(limit, above.access)
        check_delegation(limit, _said(wanted, limit))
        access = meet(_own(wanted, profile), limit)
        quotas = stored.session.quotas
        check_quotas_delegated(quotas, wanted.quotas)
        return structs.replace(
            wanted,
            parent_created_at_ms=stored.session.head.created_at_ms,
            permissions=access.permissions,
            isolation=access.isolation,
            quotas={**wanted.quotas, **_limits(quotas, {**_of(profile.quotas), **wanted.quotas})},
        )


def at_home(wanted: NewSession) -> NewSession:
    """Return what is wanted with its namespace, which is the caller's."""
    who = caller()
    if wanted.namespace:
        check_namespace(wanted.namespace, "session.namespace")
    elif who is not EVERYBODY and (place := home(who)) != DEFAULT_NAMESPACE:
        wanted = structs.replace(wanted, namespace=place)
    if who is not EVERYBODY:
        check_creation(who, wanted.namespace or DEFAULT_NAMESPACE, wanted.isolation or Isolation())
    return wanted


def _own(wanted: NewSession, profile: Profile) -> Access:
    return Access(wanted.permissions or profile.access.permissions, wanted.isolation or profile.access.isolation)


def _said(wanted: NewSession, limit: Access) -> Access:
    """Return what a client says a session is to have; functions of which it says nothing are those of the other."""
    isolation = wanted.isolation or Isolation()
    if not isolation.allowed_functions:
        isolation = structs.replace(isolation, allowed_functions=limit.isolation.allowed_functions)
    return Access(wanted.permissions or Permissions(), isolation)


def _of(quotas: Mapping[str, Quota]) -> dict[str, int]:
    return {resource: quota.limit for resource, quota in quotas.items()}


def _limits(above: Mapping[str, Quota], own: Mapping[str, int]) -> dict[str, int]:
    """Return the limits of what a session above has limits of: never higher than there."""
    return {resource: min(quota.limit, own.get(resource, quota.limit)) for resource, quota in above.items()}
