"""The live page in a real browser: headless Chromium, driven over the DevTools protocol."""

from __future__ import annotations

import asyncio
import json
import shutil

import pytest

from playfield.show.watch.game import Source
from watch_browser import tab_of
from watch_fixtures import make_run, served


@pytest.fixture
def page(tmp_path):
    with served(Source(str(make_run(tmp_path / "run")))) as found:
        yield found


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_chromium_shows_live_numbers_and_asks_no_other_host(page, tmp_path):
    """Over the DevTools protocol: numbers change, pixels change, no console error, no request elsewhere."""
    problems, urls, seen = asyncio.run(_browse(page.url, tmp_path / "chromium"))
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


async def _browse(url, home):
    seen = []
    async with tab_of(url, home) as tab:
        for _ in range(100):
            await asyncio.sleep(0.1)
            found = json.loads(await tab.value(LOOK, '{"step": "–"}'))  # the page may not be there yet
            if found["step"] != "–":
                seen.append(found)
            if len(seen) == 6:
                break
        return tab.problems, tab.urls, seen
