"""Who may import whom."""

import ast
import subprocess
import sys
from pathlib import Path

from tests.house.tree import PACKAGE, ROOT, imported, name_of, parsed, sources

CORE = PACKAGE / "core"

# Data types and pure functions. Nothing here has a clock, chance, a loop, a wire or a log, which is what makes the core
# a function of its arguments.
PURE = {
    *(
        "__future__",
        "abc",
        "array",
        "bisect",
        "collections",
        "dataclasses",
        "enum",
        "fractions",
        "functools",
        "hashlib",
        "heapq",
    ),
    *("hmac", "ipaddress", "itertools", "math", "operator", "re", "string", "types", "typing", "msgspec"),
}


def test_core_imports_only_data_types() -> None:
    """The core reaches itself, the data types of the standard library, and msgspec."""
    strangers = {
        f"{name_of(path)} imports {module}"
        for path in core_modules()
        for module in imported(path)
        if module.partition(".")[0] not in PURE and not is_within(module, "sessiond.core")
    }
    assert strangers == set()


def test_core_does_not_get_round_the_import_list() -> None:
    """No file, no text run as code, no import by name, no printing: what needs no import is looked for by name."""
    forbidden = {"__import__", "breakpoint", "compile", "eval", "exec", "input", "open", "print"}
    calls = {
        f"{name_of(path)}:{node.lineno} calls {node.func.id}"
        for path in core_modules()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in forbidden
    }
    assert calls == set()


def test_layers_are_kept() -> None:
    """The contracts of import-linter in pyproject.toml hold."""
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def core_modules() -> list[Path]:
    """Return the modules of the core."""
    return [path for path in sources() if CORE in path.parents]


def is_within(module: str, package: str) -> bool:
    """Whether the module is the package or lies in it."""
    return module == package or module.startswith(f"{package}.")
