"""`scripts/studies.sh`: a running testnet is forked and its sun doubled; what comes of it opens in a real browser."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import httpx
import trio
from browser_support import Page, browser_page

import gridtokenx
from gridtokenx.forks import ForkError

ROOT = Path(__file__).parent.parent
NOTEBOOK = "first_steps.ipynb"
WAIT_S = 240
DAY_S = 600


@contextmanager
def testnet(folder: Path, households: int, port_base: int) -> Iterator[Path]:
    """The data directory of an authority of a running testnet, which must still run in the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "testnet", "--for", str(WAIT_S + DAY_S), "--households", str(households), "--no-http",
         "--port-base", str(port_base), "--run-dir", str(folder), "--json"], cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        yield folder / "data" / "egat"
        assert process.poll() is None, "the testnet ended meanwhile"
    finally:
        process.terminate()
        process.wait()


def wait_for_bills(directory: Path) -> None:
    """Until households have traded and a window with readings is settled, looking at forks of it."""
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        time.sleep(2)
        try:
            with gridtokenx.fork(directory) as chain:
                if chain.frames.trades().height and chain.frames.bills().height:
                    return
        except ForkError:
            continue                        # no checkpoint yet
    raise AssertionError(f"no trades and bills within {WAIT_S} s")


def carry_out(folder: Path, directory: Path) -> list[Path]:
    """Forks what runs, lets a day pass with twice the panels; the pages and pictures that this wrote."""
    commands = [
        ["-m", "gridtokenx.cli", "fork", "--from", str(directory), "--out", "study"],
        ["-m", "gridtokenx.cli", "fork", "report", "study", "--parent", "--out", "fork.html"],
        [str(ROOT / "examples" / "doubled_sun.py"), str(directory), "--out", "."],
    ]
    for command in commands:
        click.echo(subprocess.run([sys.executable, *command], cwd=folder, check=True, text=True, timeout=DAY_S,
                                  stdout=subprocess.PIPE).stdout.rstrip())
    return [folder / name for name in ("fork.html", "doubled_sun.html", "doubled_sun.svg")]


async def look_at_file(page: Page, path: Path, out: Path) -> int:
    """Everything on it is drawn, it asks nobody for anything, and the console has nothing to say. How many pictures."""
    page.troubles.clear()
    page.asked.clear()
    await page.open(path.as_uri())
    await page.until(f"document.readyState === 'complete' && location.href === {path.as_uri()!r}", path.name)
    drawn = await page.value("Array.from(document.images).map(each => each.complete && each.naturalWidth > 0)")
    if path.suffix == ".html":
        assert drawn and all(drawn), (path, drawn)
        assert await page.value("document.querySelectorAll('table tr').length") > 10
    else:
        assert await page.value("document.documentElement.getBoundingClientRect().width") > 100
    await page.picture(out / f"{path.stem}{path.suffix.replace('.', '-')}.webp")
    assert page.troubles == [], (path, page.troubles)
    assert all(address.startswith(("file:", "data:")) for address in page.asked), page.asked
    click.echo(f"ok  {path.name} is whole ({len(drawn)} pictures in it), fetches nothing, no word in the console")
    return len(drawn)


# ---------------------------------------------------------------- the notebook


@contextmanager
def jupyter(interpreter: str, folder: Path, port: int) -> Iterator[str]:
    """The address of a JupyterLab that shows `folder`."""
    token = secrets.token_hex()
    with (folder / "jupyter.log").open("wb") as log:
        process = subprocess.Popen(
            [interpreter, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", "--ip=127.0.0.1",
             "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}",
             "--LabApp.expose_app_in_browser=True"],
            cwd=folder, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": ""})
        try:
            until = time.monotonic() + WAIT_S
            while True:
                assert process.poll() is None and time.monotonic() < until, (folder / "jupyter.log").read_text()
                try:
                    httpx.get(f"http://127.0.0.1:{port}/api", timeout=5).raise_for_status()
                    break
                except httpx.HTTPError:
                    time.sleep(0.2)
            yield f"http://127.0.0.1:{port}/lab/tree/{NOTEBOOK}?reset&token={token}"
        finally:
            process.terminate()
            process.wait()


async def look_at_notebook(page: Page, url: str, out: Path) -> None:
    """All of its cells run in JupyterLab, none fails, each picture is drawn."""
    page.troubles.clear()
    await page.size(1200, 7000)             # what is not in sight is not in the page
    await page.open(url)
    cells = sum(each["cell_type"] == "code" for each in json.loads((ROOT / "examples" / NOTEBOOK).read_text())["cells"])
    shown = "[...(window.jupyterapp?.shell.widgets('main') ?? [])].find(each => each.sessionContext)"
    await page.until(f"{shown} && document.querySelectorAll('.jp-CodeCell').length === {cells}", "the notebook")
    await page.value(f"{shown}.sessionContext.ready.then(() => window.jupyterapp.shell.activateById({shown}.id))")
    assert await page.value("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    prompts = "Array.from(document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')).map(each => each.innerText)"
    await page.until(f"{prompts}.filter(each => /\\d/.test(each)).length === {cells}", "all cells run")
    failed = "[data-mime-type='application/vnd.jupyter.error'], [data-mime-type='application/vnd.jupyter.stderr']"
    said = await page.value(f"Array.from(document.querySelectorAll(\"{failed}\")).map(each => each.innerText)")
    assert said == [], said
    drawn = "document.querySelectorAll('.jp-RenderedSVG svg, .jp-RenderedSVG img').length"
    await page.until(f"{drawn} === 3", "three pictures")
    await page.picture(out / "notebook.webp")
    assert page.troubles == [], page.troubles
    click.echo(f"ok  {NOTEBOOK} in JupyterLab: {cells} cells run, 3 pictures drawn, no word in the console")
    await page.open("about:blank")          # as long as JupyterLab is there to be left
    await page.until("location.href === 'about:blank'", "an empty page")


async def look(folder: Path, pages: list[Path], interpreter: str | None, port: int, out: Path) -> None:
    async with browser_page(folder / "profile") as page:
        await page.size(1100, 900)
        for path in pages:
            await look_at_file(page, path, out)
        if interpreter is None:
            click.echo(f"    {NOTEBOOK} was not opened: --jupyter names an interpreter with jupyterlab and gridtokenx")
            return
        work = folder / "notebook"
        work.mkdir()
        (work / NOTEBOOK).write_bytes((ROOT / "examples" / NOTEBOOK).read_bytes())
        with jupyter(interpreter, work, port) as url:
            await look_at_notebook(page, url, out)
        await page.size(1100, 900)
        await look_at_file(page, work / "first_steps.html", out)


@click.command()
@click.option("--households", type=click.IntRange(20, 200), default=30, show_default=True)
@click.option("--port-base", type=click.IntRange(1024, 65_000), default=9821, show_default=True)
@click.option("--jupyter", "interpreter", help="A Python that has jupyterlab, ipykernel and gridtokenx[study].")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Where pictures of the pages go.")
def main(households: int, port_base: int, interpreter: str | None, out: Path | None) -> None:
    """Fork a running testnet, let a day pass with twice the panels, and open what comes of it in a browser."""
    if interpreter is not None and (asked := subprocess.run(
            [interpreter, "-c", "import jupyterlab, ipykernel, gridtokenx"], cwd="/", capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": ""}, check=False)).returncode:
        raise click.UsageError(f"--jupyter {interpreter}: {asked.stderr.strip().splitlines()[-1]}; a Python that has "
                               "jupyterlab, ipykernel and gridtokenx[study] is allowed")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with testnet(folder / "run", households, port_base) as directory:
            wait_for_bills(directory)
            pages = carry_out(folder, directory)
        shown = out or folder / "pictures"
        shown.mkdir(parents=True, exist_ok=True)
        trio.run(look, folder, pages, interpreter, port_base + 70, shown)


if __name__ == "__main__":
    main()
