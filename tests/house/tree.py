"""What the tests of the house look at: the files of this checkout, and what Python makes of them."""

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TypeAlias

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "sessiond"
GENERATED = PACKAGE / "pb"

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


def sources() -> list[Path]:
    """Return every module of the package that a person wrote."""
    return sorted(path for path in PACKAGE.rglob("*.py") if GENERATED not in path.parents)


def written_tests() -> list[Path]:
    """Return every module of the tests."""
    return sorted((ROOT / "tests").rglob("*.py"))


def tracked() -> list[Path]:
    """Return every file that is committed; none if this is no git checkout."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    names = done.stdout.decode().split("\0") if done.returncode == 0 else []
    return [path for name in names if name and (path := ROOT / name).is_file()]


def name_of(path: Path) -> str:
    """Return the name of a file as seen from the root of the checkout."""
    return path.relative_to(ROOT).as_posix()


@cache
def parsed(path: Path) -> ast.Module:
    """Return the syntax tree of a module."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def functions(path: Path) -> Iterator[Function]:
    """Yield every function and method of a module, nested ones too."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def imported(path: Path) -> Iterator[str]:
    """Yield the full name of every module that a module imports, wherever in it."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
