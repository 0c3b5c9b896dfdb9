"""The file in which the switch lives on while the process of pipelined does not."""

from collections.abc import Callable
from pathlib import Path

import msgspec

from sessiond.simulator.switch import Switch, SwitchState

_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(SwitchState)


def read(path: Path) -> SwitchState | None:
    """Return the last state that was written; None if there is none."""
    try:
        return _DECODER.decode(path.read_bytes())
    except FileNotFoundError:
        return None


def write(path: Path, state: SwitchState) -> None:
    """Put a state in place of the last one; whoever reads, or kills us, meets one of the two whole."""
    new = path.with_name(f"{path.name}.new")
    new.write_bytes(_ENCODER.encode(state))
    new.replace(path)


def keeper(path: Path | None) -> Callable[[Switch], None]:
    """Return what stores a switch in a file; without a file the switch dies with the process."""

    def keep(switch: Switch) -> None:
        if path is not None:
            write(path, switch.state())

    return keep
