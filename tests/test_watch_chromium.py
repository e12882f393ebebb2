"""The live page in a real browser: headless Chromium, driven over the DevTools protocol."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from pathlib import Path

import pytest
import websockets

from playfield.show.watch.game import Source
from watch_fixtures import make_run, served


@pytest.fixture
def page(tmp_path):
    with served(Source(str(make_run(tmp_path / "run")))) as found:
        yield found


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_chromium_shows_live_numbers_and_asks_no_other_host(page, tmp_path):
    """Over the DevTools protocol: numbers change, pixels change, no console error, no request elsewhere."""
    process = subprocess.Popen(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0",
         f"--user-data-dir={tmp_path}", "about:blank"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        problems, urls, seen = asyncio.run(_browse(page.url, tmp_path / "DevToolsActivePort"))
    finally:
        process.terminate()
        process.wait(10)
    assert problems == []
    assert all(u.startswith((page.origin, page.origin.replace("http", "ws"), "data:")) for u in urls)
    assert len(urls) >= 4  # page, script, style, socket
    assert len({s["game"] + "/" + s["step"] for s in seen}) > 1
    assert len({s["pixels"] for s in seen}) > 1
    assert seen[-1]["env"] == "CartPole-v1"
    assert "step 200" in seen[-1]["label"]


LOOK = """(() => { const c = document.getElementById('frame'), t = (id) => document.getElementById(id).textContent;
let sum = 0;
if (c.width) c.getContext('2d').getImageData(0, 0, c.width, c.height).data
  .forEach((v, i) => { sum += v * (i % 9973) });
return JSON.stringify({pixels: sum, step: t('step'), game: t('game'), env: t('env'), label: t('label')}) })()"""


async def _browse(url: str, port_file: Path):
    for _ in range(400):
        if port_file.exists() and port_file.read_text().count("\n"):
            break
        await asyncio.sleep(0.05)
    port, path = port_file.read_text().split()[:2]
    problems, urls, seen = [], [], []
    async with websockets.connect(f"ws://127.0.0.1:{port}{path}", max_size=None) as browser:
        number = 0
        session: dict[str, str] = {}

        async def call(method, **params):
            nonlocal number
            number += 1
            await browser.send(json.dumps({"id": number, "method": method, "params": params, **session}))
            while True:
                message = json.loads(await asyncio.wait_for(browser.recv(), 20))
                match message.get("method"), message.get("params"):
                    case (("Runtime.exceptionThrown" | "Runtime.consoleAPICalled"), what):
                        problems.append(what)
                    case "Log.entryAdded", what if what["entry"]["level"] == "error":
                        problems.append(what)
                    case "Network.requestWillBeSent", what:
                        urls.append(what["request"]["url"])
                    case "Network.webSocketCreated", what:
                        urls.append(what["url"])
                if message.get("id") == number:
                    return message["result"]

        target = await call("Target.createTarget", url="about:blank")
        attached = await call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            await call(f"{domain}.enable")
        await call("Page.navigate", url=url)
        for _ in range(100):
            await asyncio.sleep(0.1)
            result = (await call("Runtime.evaluate", expression=LOOK))["result"]
            found = json.loads(result.get("value", '{"step": "–"}'))  # the page may not be there yet
            if found["step"] != "–":
                seen.append(found)
            if len(seen) == 6:
                break
        return problems, urls, seen
