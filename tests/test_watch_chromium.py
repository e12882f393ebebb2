"""The live page in a real browser: headless Chromium, driven over the DevTools protocol."""

from __future__ import annotations

import asyncio
import json
import shutil

import pytest

from playfield.experiments import live
from playfield.show.watch import board as board_module
from playfield.show.watch.board import Board
from playfield.show.watch.game import Source
from watch_browser import tab_of
from watch_fixtures import make_folder, make_run, served


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


BOARD = """JSON.stringify({
rows: [...document.querySelectorAll('#rows tr')].map((r) => r.innerText.replace(/\\s+/g, ' ').trim()),
charts: [...document.querySelectorAll('#charts canvas')].map((c) => new Set(new Uint32Array(
  c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer)).size),
legend: [...document.querySelectorAll('#charts li')].map((r) => r.innerText), title: document.title})"""


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_chromium_draws_the_table_and_the_curves_of_a_folder(tmp_path, monkeypatch):
    folder = make_folder(tmp_path / "exp")
    board = Board(str(folder), live.Reader(folder).look)
    monkeypatch.setattr(board_module, "SHARE", 1e9)
    monkeypatch.setattr(board_module, "PERIOD", 0.2)
    hostile = folder / "CartPole-v1" / "ppo" / "2"
    (hostile / "run.json").write_text('{"env": "<img src=x onerror=alert(1)>"}')
    (folder / "<b>x").mkdir()
    hostile.rename(folder / "<b>x" / "2")
    make_run(folder / "acrobot", "Acrobot-v1")

    async def browse(page):
        async with tab_of(page.url, tmp_path / "chromium") as tab:
            await tab.wait("document.querySelectorAll('#rows tr').length == 7")
            first = json.loads(await tab.value(BOARD))
            await tab.value(
                "document.querySelector('#filter').value = 'a2c cartpole'; filter.oninput({target: filter})"
            )
            filtered = json.loads(await tab.value(BOARD))
            await tab.value("document.querySelectorAll('#head button')[2].click()")  # by seed
            await tab.value("document.querySelectorAll('#head button')[2].click()")  # the other way round
            down = json.loads(await tab.value(BOARD))
            with open(folder / "CartPole-v1" / "a2c" / "1" / "monitor.csv", "a") as file:
                file.write("".join(f"500.0,5,20.0,{960 + i}\n" for i in range(9)))
            await tab.wait("document.querySelector('#rows').innerText.includes('28 training games')")
            await tab.value("document.querySelector('#rows tr:last-child').click()")
            await tab.wait("document.querySelector('#step').textContent != '–'")
            opened = await tab.value("document.querySelector('#label').textContent")
            await tab.value("document.querySelector('#back').click()")
            await tab.wait(
                "document.body.className == 'boarding' && document.querySelectorAll('#rows tr').length == 3"
            )
            return tab, first, filtered, down, opened

    with served(board) as page:
        tab, first, filtered, down, opened = asyncio.run(browse(page))
    assert tab.problems == []
    assert all(u.startswith((page.origin, page.origin.replace("http", "ws"), "data:")) for u in tab.urls)
    assert first["title"] == f"{folder} · playfield"
    assert len(first["charts"]) == 2
    assert min(first["charts"]) > 5  # colours: there is text and there are lines
    assert any("mean of 3 seeds" in line for line in first["legend"])
    assert "<b>x/2" in " ".join(first["rows"])  # text, not markup
    assert len(filtered["rows"]) == 3
    assert len(filtered["charts"]) == 1
    assert [row.split(" net mlp ")[1][0] for row in down["rows"]] == ["3", "2", "1"]
    assert "a2c/1, step 200" in opened
