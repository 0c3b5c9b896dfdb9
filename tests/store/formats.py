"""The stored formats: their fixtures, and the form of every part as it is written today.

`python -m tests.store.formats` writes both anew for the present format. Do that only as long as no release has written
this format; after that, a change of a part takes a new `codec.FORMAT` with an entry in `codec.UPGRADES`.
"""

import json
import re
from enum import EnumType
from pathlib import Path
from typing import Any, Final, get_args, get_type_hints

import msgspec

from sessiond.core.effects import (
    ActivateFlows,
    CreateBearer,
    DeactivateFlows,
    DeleteBearer,
    TerminateSession,
    VersionedRule,
)
from sessiond.core.session import Session
from sessiond.core.settings import Settings
from sessiond.core.situation import Situation
from sessiond.store import codec
from tests.core.builders import (
    NOW_MS,
    TEIDS,
    both,
    dynamic,
    free,
    monitor_grant,
    ocs,
    pcrf,
    redirect_grant,
    started,
    static,
)

FOLDER: Final = Path(__file__).parents[1] / "data" / "store"
FIXTURES: Final = sorted(FOLDER.glob("format-*.json"))
SCHEMA_HELP: Final = (
    "a stored part has changed its form: count codec.FORMAT up and add to codec.UPGRADES; "
    "as long as no release has written this format, `python -m tests.store.formats` is enough"
)


def schema() -> dict[str, Any]:
    """Return the form of all that is in a session: fields of structs with their types, values of enums."""
    forms: dict[str, Any] = {}
    _collect(Session, forms)
    return forms


def _collect(kind: Any, forms: dict[str, Any]) -> None:
    if isinstance(kind, EnumType):
        members: list[Any] = list(kind)
        forms[kind.__name__] = [str(member.value) for member in members]
    elif isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__name__ not in forms:
        hints = {field: hint for field, hint in get_type_hints(kind).items() if field in kind.__struct_fields__}
        forms[kind.__name__] = {field: _name(hint) for field, hint in hints.items()}
        for hint in hints.values():
            _collect(hint, forms)
    for part in get_args(kind):
        _collect(part, forms)


def _name(hint: Any) -> str:
    return re.sub(r"\b[a-z]\w*\.", "", hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint))


def example() -> Session:
    """Return a session that has some of everything."""
    catalogue = {rule.id: rule for rule in (ocs("video", 1), pcrf("music", "m1"), free("mail"))}
    life = started(
        Situation(NOW_MS, Settings(), catalogue),
        credits_=[redirect_grant("1"), redirect_grant("2/7", validity_ms=60_000)],
        monitors=[monitor_grant("m1")],
        installs=[*static("video", "music"), *dynamic(both("chat", 1, "m1"), free("web", definition=b"\n\x03web"))],
        online=True,
    )
    life.use("video", 700, 200)
    life.use("music", 900)
    life.collect()
    rules = (VersionedRule("video", 1),)
    effects = (
        ActivateFlows(teids=TEIDS, rules=rules),
        DeactivateFlows(teids=TEIDS, rules=rules, everything=True, not_before_ms=NOW_MS),
        CreateBearer(rules=("chat",)),
        DeleteBearer(bearer_ids=(6,)),
        TerminateSession(),
    )
    life.decide(lambda draft: draft.save(*effects))
    return life.session


def main() -> None:
    """Write the fixture of the present format, and the form of its parts."""
    session = example()
    fields = {name.decode(): text.decode() for name, text in codec.encode(session).items()}
    _write(f"format-{codec.FORMAT}.json", {"fields": fields, "session": msgspec.to_builtins(session)})
    _write("schema.json", {"format": codec.FORMAT, "parts": schema()})


def _write(name: str, value: Any) -> None:
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
    (FOLDER / name).write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
