"""Every row of docs/mutations.md names a rule that tests/mutations.py breaks, and a test that is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mutations import KERNELS, SETS

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "mutations.md").read_text()
ROW = re.compile(r"^\| (.+) \| `[a-z_]+\.p\w+` \| `([^`]+)` \|$")


@pytest.mark.parametrize("extension", SETS)
def test_the_page_lists_broken_rules(extension: str) -> None:
    section = PAGE.split(f"## {extension}\n")[1].split("\n## ")[0]
    rows = [found.groups() for found in map(ROW.match, section.splitlines()) if found]
    assert len(rows) >= (5 if extension in {"state", "trie"} else 16)
    assert {rule for rule, _ in rows} <= {rule for rule, _, _ in SETS[extension][0]}
    known = "".join((TESTS / name.split("::")[0]).read_text() for name in SETS[extension][1])
    for rule, test in rows:
        if test == "-":
            assert "One was not noticed" in PAGE
            continue
        assert f"def {test.split('[')[0]}(" in known, f"{rule}: there is no {test}"


def test_what_is_broken_of_the_checks_against_energy_from_nowhere_stands_once() -> None:
    root = TESTS.parent
    sources = [*(root / "gridtokenx").rglob("*.py"), *(root / "native" / name for name in KERNELS)]
    text = "\0".join(path.read_text() for path in sources)
    assert [rule for rule, old, _ in SETS["energy"][0] if text.count(old) != 1] == []
