"""`scripts/screenshots.sh`: the explorer of a running testnet in a real browser: what it must show, its pictures."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import click
import httpx
import trio
from browser_support import Page, browser_page

ROOT = Path(__file__).parent.parent
SETTLED_S = 60
"""From the first trade to the first bills, with some to spare."""


async def wait_for_trade(url: str, process: subprocess.Popen[bytes]) -> None:
    async with httpx.AsyncClient(base_url=url) as http:
        with trio.fail_after(240):
            while True:
                assert process.poll() is None, "the testnet ended"
                try:
                    if (await http.get("/api/v1/energy/trades?limit=1")).json()["items"]:
                        return
                except httpx.TransportError:
                    pass
                await trio.sleep(0.5)


async def look(page: Page, url: str, out: Path) -> None:
    """The checks, with a line for each, and the pictures."""
    await page.size(1360, 1330)
    await page.open(f"{url}/")
    height = "Number(document.querySelector('.tile strong').innerText.replace(/,/g, ''))"
    await page.until(f"document.querySelector('.tile strong') && {height} > 0", "the first page", 120)
    first = await page.value(height)
    await page.until(f"{height} >= {first} + 5", "blocks advance")
    click.echo(f"ok  blocks advance: {first} -> {await page.value(height)}")
    trades = "document.querySelector('#trades tbody').innerText"
    before = await page.until(trades, "trades")
    await page.until(f"{trades} !== {before!r}", "trades appear", 120)
    click.echo("ok  trades appear")
    depth = "document.querySelectorAll('#market figcaption')[0].innerText"
    await page.until(f"!{depth}.includes('in 0 orders')", "a book", 120)
    was = await page.value(depth)
    await page.until(f"{depth} !== {was!r}", "the depth chart moves", 120)
    click.echo(f"ok  the depth chart moves: {was!r} -> {await page.value(depth)!r}")
    await trio.sleep(SETTLED_S)
    await page.until(f"!{depth}.includes('in 0 orders')", "a book", 120)
    await page.picture(out / "explorer.webp")

    window = await page.value("(async () => (await (await fetch('/api/v1/status')).json()).window)()")
    await page.size(1200, 900)
    await page.value(f"location.hash = '#/window/{window - 7}'")
    await page.until("document.querySelector('#balance .good') !== null", "the balance of a settled window", 200)
    click.echo("ok  a settled window's energy balance is exact")
    await trio.sleep(1)
    await page.picture(out / "explorer-window.webp")

    await page.value("document.querySelector('#search').focus()")
    await page.type("TESTNET-0007")
    await page.press("Enter")
    await page.until("document.querySelectorAll('#bill tbody tr').length > 1", "an account with its bill", 200)
    click.echo("ok  search finds an account, with its bill")
    await trio.sleep(1)
    await page.picture(out / "explorer-account.webp")

    await page.size(390, 844, phone=True)
    await page.dark(True)
    await page.value("location.hash = '#/'")
    await page.value("document.querySelector('.choices button').click()")
    await page.until("document.querySelectorAll('svg.diagram .bus').length > 6", "the first page on a phone")
    await trio.sleep(3)
    assert await page.value("document.documentElement.scrollWidth") <= 390
    await page.picture(out / "explorer-phone.webp")
    assert page.troubles == [], page.troubles
    assert all(address.startswith((url, "data:")) for address in page.asked)
    click.echo(f"ok  no console errors; {len(page.asked)} requests, all to the node itself")


async def run(households: int, port_base: int, out: Path) -> None:
    url = f"http://127.0.0.1:{port_base + 79}"
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "testnet", "--for", "400", "--households", str(households), "--port-base",
             str(port_base), "--run-dir", f"{folder}/run"], cwd=ROOT, stdout=subprocess.DEVNULL)
        try:
            await wait_for_trade(url, process)
            async with browser_page(Path(folder) / "profile") as page:
                await look(page, url, out)
        except BaseException:
            click.echo((Path(folder) / "run" / "logs" / "egat.log").read_text()[-2_000:], err=True)
            raise
        finally:
            process.terminate()
            await trio.to_thread.run_sync(process.wait)


@click.command()
@click.option("--households", type=click.IntRange(20, 200), default=60, show_default=True)
@click.option("--port-base", type=click.IntRange(1024, 65_000), default=9901, show_default=True)
@click.option("--out", type=click.Path(file_okay=False, exists=True, path_type=Path), default=ROOT / "docs" / "images")
def main(households: int, port_base: int, out: Path) -> None:
    """Run a testnet, try its explorer, take pictures."""
    trio.run(run, households, port_base, out)


if __name__ == "__main__":
    main()
