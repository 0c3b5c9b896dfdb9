"""The files around the code: the change log, the scripts, and nothing of the machine somebody worked on."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.house.tree import ROOT, name_of, tracked

CHANGELOG = ROOT / "CHANGELOG.md"
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
SCRIPTS = [ROOT / "scripts" / name for name in ("env", "test", "check")] + [ROOT / ".ci" / "run"]
MACHINE = re.compile(rb"(?<![\w.-])/(work|root)/")


def test_changelog_has_what_is_not_released_yet() -> None:
    """Users find what changes for them under Unreleased, the newest first."""
    versions = re.findall(r"^## \[(.+?)\]", CHANGELOG.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert versions[0] == "Unreleased"


def test_changelog_has_the_usual_headings() -> None:
    """The kinds of change are those of Keep a Changelog."""
    kinds = re.findall(r"^### (.+)", CHANGELOG.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert set(kinds) <= KINDS


def test_no_file_names_a_folder_of_one_machine() -> None:
    """What is committed works elsewhere: it has no absolute name of somebody's checkout or home."""
    named = {name_of(path) for path in tracked() if MACHINE.search(path.read_bytes())}
    assert named == set()


@pytest.mark.parametrize("script", SCRIPTS, ids=name_of)
def test_scripts_are_bash(script: Path) -> None:
    """Each script can be parsed, and is executable unless it is made to be sourced."""
    subprocess.run(["bash", "-n", script], check=True)
    assert os.access(script, os.X_OK) is (script.name != "env")


@pytest.mark.parametrize("script", [script for script in SCRIPTS if script.name != "env"], ids=name_of)
def test_scripts_stop_at_the_first_failure(script: Path) -> None:
    """A script does not go on after a command that failed, nor with a variable that is not set."""
    text = script.read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "\nset -euo pipefail\n" in text


def test_image_and_scripts_use_the_same_installer() -> None:
    """The packages of the image are put there by the uv that the tests ran with."""
    script = re.search(r"^UV_VERSION=(\S+)", (ROOT / "scripts" / "env").read_text(encoding="utf-8"), flags=re.MULTILINE)
    image = re.search(r"\buv==(\S+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    assert script is not None
    assert image is not None
    assert image[1] == script[1]
