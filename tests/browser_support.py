"""A headless Chromium driven over its own debugging protocol: pages, what they say to the console, keys, pictures."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from attrs import define, field
from trio_websocket import WebSocketConnection, open_websocket_url

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# No profile, no services of its maker: it asks nobody but the page.
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
           "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
           "--disable-dev-shm-usage", "--mute-audio", "--lang=en-GB", "--remote-debugging-port=0", "about:blank")
START_S = 60
ANSWER_S = 60


def find_browser() -> str | None:
    """A Chromium of this machine; `GRIDTOKENX_BROWSER` names another."""
    named = os.environ.get("GRIDTOKENX_BROWSER")
    return named or next((path for name in BROWSERS if (path := shutil.which(name))), None)


@define(eq=False)
class Page:
    """One tab. `troubles` are errors and warnings of its console, failed requests and uncaught exceptions."""

    _socket: WebSocketConnection
    troubles: list[str] = field(factory=list)
    asked: list[str] = field(factory=list)
    """Addresses that it loaded from."""
    _next: int = 0
    _waiting: dict[int, tuple[trio.Event, list[Any]]] = field(factory=dict)

    async def command(self, method: str, **parameters: Any) -> Any:
        self._next += 1
        entry = self._waiting[self._next] = (trio.Event(), [])
        await self._socket.send_message(json.dumps({"id": self._next, "method": method, "params": parameters}))
        with trio.fail_after(ANSWER_S):
            await entry[0].wait()
        answer = entry[1][0]
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    async def listen(self) -> None:
        while True:
            message = json.loads(await self._socket.get_message())
            if "id" in message:
                event, box = self._waiting.pop(message["id"])
                box.append(message)
                event.set()
            else:
                self._note(message["method"], message["params"])

    def _note(self, method: str, told: Any) -> None:
        if method == "Runtime.exceptionThrown":
            details = told["exceptionDetails"]
            self.troubles.append(str(details.get("exception", {}).get("description", details["text"])))
        elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            self.troubles.append(" ".join(str(part.get("value", part.get("description"))) for part in told["args"]))
        elif method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.troubles.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.asked.append(told["request"]["url"])

    async def value(self, script: str) -> Any:
        """What an expression of JavaScript is in the page; promises are waited for."""
        answer = await self.command("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def until(self, script: str, what: str, timeout_s: float = 120) -> Any:
        """Waits until the expression is true; returns its value."""
        with trio.move_on_after(timeout_s):
            while True:
                found = await self.value(script)
                if found:
                    return found
                await trio.sleep(0.1)
        text = await self.value("document.body.innerText.slice(0, 2000)")
        raise AssertionError(f"{what}: not within {timeout_s:.0f} s; console: {self.troubles}; the page says:\n{text}")

    async def open(self, url: str) -> None:
        await self.command("Page.navigate", url=url)

    async def press(self, key: str, text: str = "") -> None:
        codes = {"Enter": 13, "Tab": 9}
        more = {"windowsVirtualKeyCode": codes[key]} if key in codes else {}
        shown = {"text": "\r" if key == "Enter" else text} if key == "Enter" or text else {}
        await self.command("Input.dispatchKeyEvent", type="keyDown", key=key, **shown, **more)
        await self.command("Input.dispatchKeyEvent", type="keyUp", key=key, **more)

    async def type(self, text: str) -> None:
        await self.command("Input.insertText", text=text)

    async def size(self, width: int, height: int, *, phone: bool = False) -> None:
        await self.command("Emulation.setDeviceMetricsOverride", width=width, height=height,
                           deviceScaleFactor=1, mobile=phone)

    async def dark(self, on: bool) -> None:
        await self.command("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if on else "light"}])

    async def picture(self, path: Path) -> None:
        kind = path.suffix.removeprefix(".")
        more = {"quality": 60} if kind == "webp" else {}
        answer = await self.command("Page.captureScreenshot", format=kind, **more)
        path.write_bytes(base64.b64decode(answer["data"]))


@asynccontextmanager
async def browser_page(profile: Path) -> AsyncIterator[Page]:
    """A fresh browser with one empty tab, ended on leaving."""
    command = find_browser()
    assert command is not None
    with subprocess.Popen([command, *OPTIONS[:-1], f"--user-data-dir={profile}", OPTIONS[-1]],
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            target = await _tab(profile)
            async with open_websocket_url(target, max_message_size=64 << 20) as socket, trio.open_nursery() as nursery:
                page = Page(socket)
                nursery.start_soon(page.listen)
                for domain in ("Page", "Runtime", "Log", "Network"):
                    await page.command(f"{domain}.enable")
                yield page
                nursery.cancel_scope.cancel()
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


async def _tab(profile: Path) -> str:
    """The debugging address of the first tab."""
    import httpx

    told = profile / "DevToolsActivePort"
    with trio.fail_after(START_S):
        while not told.exists() or "\n" not in told.read_text():
            await trio.sleep(0.05)
        port = told.read_text().splitlines()[0]
        async with httpx.AsyncClient() as http:
            while True:
                listed = (await http.get(f"http://127.0.0.1:{port}/json")).json()
                tabs = [tab for tab in listed if tab["type"] == "page"]
                if tabs:
                    return str(tabs[0]["webSocketDebuggerUrl"])
                await trio.sleep(0.05)
