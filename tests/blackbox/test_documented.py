"""What operators read about metrics is what there is."""

import re
from pathlib import Path

import pytest

from tests.blackbox.harness import gateway, scraped
from tests.blackbox.messages import Device

pytestmark = pytest.mark.blackbox

TEXT = Path(__file__).parents[2] / "docs" / "metrics.md"
TYPE = re.compile(r"^# TYPE (\S+) ", re.MULTILINE)
NAME = re.compile(r"`((?:ue|sessiond|stream|process|python)_[a-z_]+)`")


async def test_every_metric_is_documented(tmp_path: Path) -> None:
    """docs/metrics.md names each metric that a gateway has, and none that it has not."""
    async with gateway(tmp_path) as whole:
        await whole.attach(Device(1))
        shown = set(TYPE.findall(await scraped(whole.daemon.metrics_address)))
    assert shown == set(NAME.findall(TEXT.read_text(encoding="utf-8")))
