"""The pure layers stay pure: no I/O, no clock, no randomness, imports run downwards only (DESIGN 2)."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "gridtokenx"
PURE = ("ledger", "market", "grid", "consensus")
LOWER = {"ledger": {"ledger", "market", "grid"}, "market": {"ledger", "market", "grid"},
         "grid": {"ledger", "market", "grid"}, "consensus": {"consensus", "ledger", "market", "grid"}}
LEAVES = {"units", "codec", "crypto", "errors", "_native"}

FORBIDDEN = {
    "trio", "anyio", "asyncio", "threading", "multiprocessing", "concurrent", "subprocess", "signal", "select",
    "socket", "ssl", "http", "urllib", "httpx", "hypercorn", "fastapi", "libp2p", "multiaddr", "lmdb", "sqlite3",
    "time", "random", "secrets", "uuid", "os", "shutil", "tempfile", "logging", "structlog",
}
FORBIDDEN_NAMES = {("datetime", "now"), ("datetime", "today"), ("datetime", "utcnow"), ("date", "today"),
                   ("os", "urandom"), ("np", "random"), ("numpy", "random")}
# The key store and key generation are leaves that touch files and the system's randomness: nothing pure uses them.
NOT_FOR_PURE = {"gridtokenx.crypto.keystore"}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@cache
def imports_of(path: Path) -> set[str]:
    """Every module that a file imports at run time, inside functions too; type-checking blocks count as well."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            assert node.module is not None
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py")}
PURE_MODULES = sorted(name for name in MODULES if name.split(".")[1:2] and name.split(".")[1] in PURE)


def transitive(start: str) -> dict[str, str]:
    """Module inside the package -> who imports it, for all that `start` reaches."""
    reached, waiting = {start: start}, [start]
    while waiting:
        name = waiting.pop()
        for imported in imports_of(MODULES[name]):
            if imported in MODULES and imported not in reached:
                reached[imported] = name
                waiting.append(imported)
    return reached


def test_there_are_pure_modules() -> None:
    assert {name.split(".")[1] for name in PURE_MODULES} == set(PURE)


@pytest.mark.parametrize("name", PURE_MODULES)
def test_pure_modules_reach_no_io(name: str) -> None:
    for reached, importer in transitive(name).items():
        if reached in NOT_FOR_PURE:
            pytest.fail(f"{name} reaches {reached} by {importer}")
        bad = {imported for imported in imports_of(MODULES[reached])
               if imported.split(".")[0] in FORBIDDEN or imported in {f"{a}.{b}" for a, b in FORBIDDEN_NAMES}}
        assert not bad, f"{name} reaches {reached}, which imports {', '.join(sorted(bad))}"


@pytest.mark.parametrize("name", PURE_MODULES)
def test_imports_run_downwards(name: str) -> None:
    layer = name.split(".")[1]
    for imported in imports_of(MODULES[name]):
        parts = imported.split(".")
        if parts[0] == "gridtokenx" and len(parts) > 1:
            assert parts[1] in LOWER[layer] | LEAVES, f"{name} imports {imported}"


@pytest.mark.parametrize("name", PURE_MODULES)
def test_no_clock_and_no_chance(name: str) -> None:
    for node in ast.walk(tree(MODULES[name])):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in FORBIDDEN_NAMES, f"{name}:{node.lineno}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"open", "print", "input", "eval", "exec", "hash", "id"}, f"{name}:{node.lineno}"


@pytest.mark.parametrize("name", [name for name in PURE_MODULES if name.split(".")[1] != "consensus"])
def test_no_floats_in_the_state_machine(name: str) -> None:
    for node in ast.walk(tree(MODULES[name])):
        if isinstance(node, ast.Constant):
            assert type(node.value) is not float, f"{name}:{node.lineno} has the float {node.value}"
        if isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div):
            pytest.fail(f"{name}:{node.lineno} divides to a float")


def test_the_check_sees_what_it_must(tmp_path: Path) -> None:
    """The test tests itself: an import inside a function is found."""
    path = tmp_path / "bad.py"
    path.write_text("def f():\n    import trio\n    from os import urandom\n", "utf-8")
    assert {"trio", "os", "os.urandom"} <= imports_of(path)
