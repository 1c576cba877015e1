"""The explorer in a real browser against a running node, and what can be said of its files without one."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from api_support import ApiNode, api_node, trade_a_little
from browser_support import Page, browser_page, find_browser
from test_node_rpc import HOUSES

from gridtokenx.api.explorer_page import FOLDER, POLICY, files
from gridtokenx.crypto.bech32m import encode_address
from gridtokenx.ledger.operations import PlaceOrder
from gridtokenx.market.orders import Side

SELLER = encode_address(HOUSES[0].public)
SCRIPTS = sorted(FOLDER.glob("*.js"))
needs_browser = pytest.mark.skipif(
    find_browser() is None, reason="no Chromium on this machine (scripts/browser.sh installs one on Debian and Ubuntu)")


# ---------------------------------------------------------------- the files


def words(name: str) -> dict[str, str]:
    text = (FOLDER / f"words_{name}.js").read_text("utf-8")
    return dict(re.findall(r'^  "([^"]+)":\s+"([^"]*)",$', text, re.MULTILINE))


def test_both_languages_say_the_same_things() -> None:
    english, thai = words("en"), words("th")
    assert list(english) == list(thai) == sorted(english)
    assert len(english) > 200
    for key, text in english.items():
        assert sorted(re.findall(r"{\w+}", text)) == sorted(re.findall(r"{\w+}", thai[key])), key


def test_every_text_that_is_asked_for_is_there_and_none_is_unused() -> None:
    scripts = "".join(path.read_text("utf-8") for path in SCRIPTS if not path.name.startswith("words_"))
    asked = set(re.findall(r'\bt\("([^"]+)"', scripts))
    known = words("en")
    assert asked <= set(known)
    groups = set(re.findall(r'(?:\bt\(`|word\(")(\w+)(?:\.\$|")', scripts))
    unused = {key for key in known if f'"{key}"' not in scripts and key.partition(".")[0] not in groups}
    assert not unused


def test_the_page_holds_no_script_or_style_of_others_and_none_inline() -> None:
    page = (FOLDER / "index.html").read_text("utf-8")
    assert not re.search(r"<script(?![^>]*\bsrc=)", page)
    assert not re.search(r"<style|\sstyle=|\son\w+=|https?://", page)
    for path in SCRIPTS:
        text = path.read_text("utf-8")
        assert "innerHTML" not in text and "eval(" not in text, path
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), path
        assert max(map(len, text.splitlines())) <= 120 or path.name == "words_th.js", path
    assert "unsafe" not in POLICY
    assert {"uplot.js", "uplot.css"} <= set(files())     # the charting library comes from its package


async def test_the_page_is_served_with_its_policy_packed_and_revalidated(tmp_path: Path) -> None:
    async with api_node(tmp_path / "egat") as node:
        page = await node.http.get("/")
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        for name in re.findall(r'(?:src|href)="(explorer/[^"]+)"', page.text):
            part = await node.http.get(f"/{name}")
            assert part.status_code == 200, name
            assert part.headers["content-security-policy"] == POLICY
            assert part.headers["x-content-type-options"] == "nosniff"
        script = await node.http.get("/explorer/main.js")
        assert script.headers["content-encoding"] == "gzip"
        plain = await node.http.get("/explorer/main.js", headers={"accept-encoding": "identity"})
        assert plain.text == script.text == (FOLDER / "main.js").read_text("utf-8")
        known = {"if-none-match": script.headers["etag"]}
        assert (await node.http.get("/explorer/main.js", headers=known)).status_code == 304
        for path in ("/explorer/index.html", "/explorer/..%2fapp.py", "/explorer/nothing.js"):
            assert (await node.http.get(path)).status_code == 404, path


# ---------------------------------------------------------------- in a browser


@pytest.fixture
async def shown(tmp_path: Path) -> AsyncIterator[tuple[ApiNode, Page]]:
    """A node with some trade, and a browser that has its explorer open."""
    async with api_node(tmp_path / "egat") as node:
        await trade_a_little(node)
        async with browser_page(tmp_path / "profile") as page:
            await page.size(1280, 900)
            await page.open(f"{node.http.base_url}/")
            await page.until("document.querySelectorAll('#blocks tbody tr').length > 3", "the latest blocks")
            yield node, page


def rows(panel: str) -> str:
    return f"document.querySelector('#{panel} tbody').innerText"


async def pinned_to(page: Page, window: int) -> None:
    """Chooses a window with the buttons that a person has."""
    for _ in range(40):
        address = await page.value("document.querySelector('#market .chosen a').hash")
        away = window - int(address.rpartition("/")[2])
        if not away:
            return
        label = "later window" if away > 0 else "earlier window"
        await page.value(f"document.querySelector('#market [aria-label=\"{label}\"]').click()")
    raise AssertionError(f"the window {window} cannot be reached")


@needs_browser
async def test_one_look_tells_what_the_network_is_doing(shown: tuple[ApiNode, Page]) -> None:
    node, page = shown
    await page.until(f"{rows('authorities')}.includes('EGAT')", "the authorities")
    await page.until(f"{rows('trades')}.includes('4.40')", "the trades")
    await page.until("document.querySelectorAll('svg.diagram .bus').length > 0", "the zones")
    await page.until("document.querySelector('.figures').innerText.includes('Confirmation')", "confirmation times")

    # Blocks advance, trades appear, the depth chart moves: nobody reloads anything.
    await pinned_to(page, node.window)
    caption = "document.querySelectorAll('#market figcaption')[0].innerText"
    before = await page.until(f"{caption}.includes('Best bid 4.20') && {caption}", "the book")
    height = int((await node.get("/status"))["height"])
    await node.wallet.do(HOUSES[2], PlaceOrder(3, node.window, Side.BUY, 4270, 700))
    await page.until(f"{caption} !== {before!r} && {caption}.includes('Best bid 4.27')", "the moved book")
    painted = """[...document.querySelectorAll('#market canvas')[0].getContext('2d').getImageData(
        0, 0, 400, 200).data].some((value) => value > 0)"""
    assert await page.value(painted)
    await node.wallet.do(HOUSES[0], PlaceOrder(1, node.window, Side.SELL, 4360, 400))
    await node.wallet.do(HOUSES[1], PlaceOrder(2, node.window, Side.BUY, 4860, 400))
    await page.until(f"{rows('trades')}.includes('4.36')", "the new trade")
    await page.until("document.querySelectorAll('#market figcaption')[1].innerText.includes('Last price 4.36')",
                     "the price history")
    await page.until(f"Number(document.querySelector('.tile strong').innerText.replace(',', '')) > {height}",
                     "the next block")

    assert page.troubles == []
    origin = str(node.http.base_url)
    assert all(address.startswith((origin, "data:")) for address in page.asked)     # it works without any other host


@needs_browser
async def test_search_finds_anything_by_keyboard_alone(shown: tuple[ApiNode, Page]) -> None:
    node, page = shown
    top = await node.get("/blocks/1")

    async def look_for(text: str, what: str) -> None:
        await page.value("document.activeElement.blur()")
        await page.press("/", "/")
        assert await page.value("document.activeElement.id") == "search"
        await page.value("document.activeElement.select()")
        await page.type(text)
        await page.press("Enter")
        await page.until(f"document.querySelector('main').innerText.includes({what!r})", text)
        assert await page.value("document.activeElement.id") in ("main", "search")

    await look_for(SELLER, "Bill")
    assert SELLER in await page.value("document.querySelector('main').innerText")
    assert "4.40" in await page.until(f"{rows('trades')}", "the account's trades")
    await look_for(top["hash"], "State root")
    await look_for(top["transaction_ids"][0], "Operations")
    await look_for(str(node.window), "Energy balance")
    await page.until("document.querySelector('#balance').innerText.includes('Not settled yet')", "what is to come")
    await look_for("no such thing", "Nothing of that kind")
    assert page.troubles == []


@needs_browser
async def test_on_a_phone_in_the_dark_in_thai(shown: tuple[ApiNode, Page]) -> None:
    _, page = shown
    light = await page.value("getComputedStyle(document.body).backgroundColor")
    await page.size(360, 740, phone=True)
    await page.dark(True)
    await page.value("document.querySelector('.choices button').click()")
    await page.until("document.documentElement.lang === 'th' && document.body.innerText.includes('บล็อกล่าสุด')", "Thai")
    await page.until("document.querySelectorAll('#blocks tbody tr').length > 3", "the latest blocks")
    await page.until("document.querySelector('svg.diagram') !== null", "the zones")
    assert await page.value("document.documentElement.scrollWidth") <= 360
    assert await page.value("getComputedStyle(document.body).backgroundColor") != light
    # What a screen reader needs: names for what can be used, a text for each picture, one heading of the page.
    nameless = """[...document.querySelectorAll('button, input, select, a')].filter((element) =>
        !(element.getAttribute('aria-label') || element.innerText.trim())).length"""
    assert await page.value(nameless) == 0
    assert await page.value("document.querySelectorAll('h1').length") == 1
    assert await page.value("[...document.querySelectorAll('figure')].every((one) => one.querySelector('figcaption'))")
    assert await page.value("document.querySelector('svg.diagram').getAttribute('aria-label').length") > 20
    assert page.troubles == []
