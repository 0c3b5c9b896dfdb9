"""config/sessiond.yml documents every key, with its default, and nothing that is not a key."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml

from sessiond.daemon.config import Config, Keys, Profile, load

FILE = Path(__file__).parents[2] / "config" / "sessiond.yml"


def test_file_holds_every_key_with_its_default() -> None:
    """The documented file and the type have the same keys, and the documented values are the defaults."""
    documented = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    assert dict(_leaves(documented)) == dict(_leaves(msgspec.json.decode(msgspec.json.encode(Keys()))))


def test_file_is_accepted_as_it_is() -> None:
    """Loading the documented file gives the defaults, without a note."""
    assert load(FILE) == Config()


def test_profile_example_shows_every_key(tmp_path: Path) -> None:
    """The example of a profile, taken out of its comment, is accepted and has every key a profile can have."""
    text = FILE.read_text(encoding="utf-8").partition("For example:\n#\n")[2].rpartition("profiles: {}")[0]
    example = tmp_path / "example.yml"
    example.write_text("".join(line.removeprefix("# ") for line in text.splitlines(keepends=True)), encoding="utf-8")
    shown = yaml.safe_load(example.read_text(encoding="utf-8"))["profiles"]["ussd"]
    assert set(dict(_leaves(shown))) == set(dict(_leaves(msgspec.to_builtins(Profile()))))
    assert load(example).profiles["ussd"].settings.auto_expire is True


def test_every_key_is_explained() -> None:
    """Each line with a key has a comment on it or above it, or belongs to a section that has one."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
    bare = [
        line
        for before, line in zip(["", *lines], lines, strict=False)
        if line and not line.startswith((" ", "#")) and "#" not in line and not before.startswith("#")
    ]
    assert set(bare) <= {
        "server:", "store:", "policies:", "metrics:", "watch:", "stream_api:", "wallet_exhaust_detection:",
    }  # fmt: skip


def _leaves(tree: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value
