"""Headless Chromium, driven over the DevTools protocol."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import websockets


class Tab:
    """A tab of the browser: what went wrong on its page, and every address that was asked for."""

    def __init__(self, browser: Any) -> None:
        self.browser, self.number, self.session = browser, 0, {}
        self.problems: list[Any] = []
        self.urls: list[str] = []

    async def call(self, method: str, **params: Any) -> Any:
        self.number += 1
        await self.browser.send(json.dumps({"id": self.number, "method": method, "params": params, **self.session}))
        while True:
            message = json.loads(await asyncio.wait_for(self.browser.recv(), 20))
            match message.get("method"), message.get("params"):
                case (("Runtime.exceptionThrown" | "Runtime.consoleAPICalled"), what):
                    self.problems.append(what)
                case "Log.entryAdded", what if what["entry"]["level"] == "error":
                    self.problems.append(what)
                case "Network.requestWillBeSent", what:
                    self.urls.append(what["request"]["url"])
                case "Network.webSocketCreated", what:
                    self.urls.append(what["url"])
            if message.get("id") == self.number:
                return message["result"]

    async def value(self, expression: str, otherwise: Any = None) -> Any:
        """The value of a JavaScript expression; `otherwise` where it raised, as before the page is there."""
        return (await self.call("Runtime.evaluate", expression=expression))["result"].get("value", otherwise)

    async def wait(self, expression: str, seconds: float = 20) -> None:
        """Wait until an expression is true."""
        for _ in range(round(seconds * 20)):
            if await self.value(f"Boolean({expression})") is True:
                return
            await asyncio.sleep(0.05)
        raise AssertionError(f"never true: {expression}")


@contextlib.asynccontextmanager
async def tab_of(url: str, home: Path, width: int = 1280, height: int = 900) -> AsyncIterator[Tab]:
    """A tab that opens `url`, in a browser of its own whose files lie in `home`."""
    process = subprocess.Popen(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0",
         f"--window-size={width},{height}", f"--user-data-dir={home}", "about:blank"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    port_file = home / "DevToolsActivePort"
    try:
        for _ in range(400):
            if port_file.exists() and port_file.read_text().count("\n"):
                break
            await asyncio.sleep(0.05)
        port, path = port_file.read_text().split()[:2]
        async with websockets.connect(f"ws://127.0.0.1:{port}{path}", max_size=None) as browser:
            tab = Tab(browser)
            target = await tab.call("Target.createTarget", url="about:blank")
            attached = await tab.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
            tab.session = {"sessionId": attached["sessionId"]}
            for domain in ("Page", "Runtime", "Log", "Network"):
                await tab.call(f"{domain}.enable")
            await tab.call("Page.navigate", url=url)
            yield tab
    finally:
        process.terminate()
        process.wait(10)
