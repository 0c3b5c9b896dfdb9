"""Programs made for the original run unmodified (requirement S8)."""

import json
import os
import sys
from asyncio.subprocess import PIPE, create_subprocess_exec
from pathlib import Path

import pytest

from tests.blackbox.streams import streams
from tests.house.tree import ROOT

pytestmark = pytest.mark.blackbox

PROGRAM = Path(__file__).with_name("published_client.py")
PROTOS = ("ma/streaming/api/v1/api.proto", "ma/streaming/open_data/v1/open_data.proto")


async def run(*command: str, **environment: str) -> str:
    """Run a program to its end; return what it printed."""
    process = await create_subprocess_exec(
        sys.executable, *command, stdout=PIPE, stderr=PIPE, env={**os.environ, **environment}
    )
    stdout, stderr = await process.communicate()
    assert process.returncode == 0, stderr.decode()
    return stdout.decode()


async def test_a_program_of_the_publisher_finds_what_it_expects(tmp_path: Path) -> None:
    """With stubs that it generates itself, a writer and a reader meet as they do on the original.

    It runs in a process of its own: its messages have the same full names as ours.
    """
    generated = tmp_path / "generated"
    generated.mkdir()
    outputs = [f"--{kind}={generated}" for kind in ("python_out", "grpc_python_out")]
    await run("-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}", *outputs, *PROTOS)
    async with streams(tmp_path) as daemon:
        seen = json.loads(await run(str(PROGRAM), daemon.process.address, PYTHONPATH=str(generated)))
    offsets = {"SampleDataSource:0": 0, "SampleDataSource_essential:0": 0}
    key = seen["key"]
    assert seen == {
        "before": None,
        "key": key,
        "live": key,
        "identifier": "Sample run",
        "details": {"driver": "1"},
        "stream offset": 0,
        "complete": [False, True],
        "written": {"key": key, "offsets": offsets, "ended": True},
        "after": None,
    }
