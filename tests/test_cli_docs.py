"""The pages for operators and traders say what is so: keys and defaults, methods, addresses, links."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest

from gridtokenx.cli import COMMANDS
from gridtokenx.node.config import SECTIONS
from testnet.layout import FOLDER, Run

ROOT = FOLDER.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def default_text(value: object) -> str:
    if value is attrs.NOTHING:
        return "required"
    if value is None:
        return '""'
    if value == ():
        return "[]"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:,}".replace(",", " ") if isinstance(value, int) else f'"{value}"'


def test_the_operators_page_lists_every_key_with_its_default() -> None:
    page = (ROOT / "docs" / "operator.md").read_text()
    listed = set(re.findall(r"^\| `\[(\w+)\] (\w+)` \| (.*?) \|", page, re.MULTILINE))
    built = {(name, attribute.name, default_text(attribute.default))
             for name, kind in SECTIONS.items() for attribute in attrs.fields(kind)}
    assert listed == built


def test_the_rpc_page_lists_every_method() -> None:
    page = (ROOT / "docs" / "rpc.md").read_text()
    source = "".join((ROOT / "gridtokenx" / "node" / name).read_text() for name in ("rpc.py", "market_rpc.py"))
    built = set(re.findall(r'"(\w+)": \(\d, self\._\w+\)', source))
    assert built
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == built


def test_the_testnets_address_in_the_pages_is_the_one_it_has() -> None:
    address = Run(Path("run")).authorities[0].address
    assert address in (ROOT / "docs" / "trader.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere_and_commands_exist(page: Path) -> None:
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
    for command in re.findall(r"^ {4}gridtokenx ([a-z][a-z-]*)", text, re.MULTILINE):
        assert command in COMMANDS, f"{page.name} shows `gridtokenx {command}`"
