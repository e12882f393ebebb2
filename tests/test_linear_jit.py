"""Compiled code that is cached on disk: never older than any of its sources."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from playfield.linear.coders import coder_for
from playfield.linear.episodes import entry_points
from playfield.linear.jit import PACKAGE, drop_stale, sources
from playfield.linear.many import METHODS, configured


def test_cached_code_of_other_sources_is_dropped(tmp_path):
    folder = tmp_path / "kept"
    drop_stale(folder, "one")
    (folder / "loop.nbi").write_text("index")
    drop_stale.cache_clear()
    drop_stale(folder, "one")
    assert (folder / "loop.nbi").exists()
    drop_stale(folder, "two")
    assert not (folder / "loop.nbi").exists()
    assert (folder / "playfield-linear.sha256").read_text() == "two"


def test_every_source_with_compiled_functions_counts(tmp_path):
    for part in ("linear", "algos"):
        shutil.copytree(PACKAGE / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    seen = {sources(tmp_path)}
    for file in ("linear/kernels.py", "linear/features.py", "linear/problems.py", "algos/sarsa.py"):
        with open(tmp_path / file, "a") as out:
            out.write("# changed\n")
        sources.cache_clear()
        seen.add(sources(tmp_path))
    sources.cache_clear()
    assert len(seen) == 5


def test_every_file_that_compiles_is_among_the_sources():
    """By the marker that `sources` looks for: without it, its compiled code would outlive a change."""
    files = [path for room in ("linear", "algos", "lessons") for path in PACKAGE.glob(f"{room}/*.py")]
    compiling = [f for f in files if re.search(r"^@(jit|kernel)$|episode_loop\(", f.read_text("utf-8"), re.MULTILINE)]
    assert len(compiling) >= 9
    for file in compiling:
        assert file.name == "jit.py" or b"linear.jit" in file.read_bytes(), file


CALLER = "from stale.linear.inner import f\nfrom playfield.linear.jit import jit\n@jit\ndef g():\n    return f()\n"


def test_numba_alone_would_use_a_cached_loop_whose_kernels_changed(tmp_path):
    """Why `drop_stale` is needed: should this begin to fail, it is not."""
    package = tmp_path / "stale"
    (package / "linear").mkdir(parents=True)
    (package / "linear" / "outer.py").write_text(CALLER)
    values = []
    for value in (1, 22):
        inner = f"from playfield.linear.jit import jit\n@jit\ndef f():\n    return {value}\n"
        (package / "linear" / "inner.py").write_text(inner)
        code = "from stale.linear.outer import g; print(g())"
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
        values.append(int(done.stdout))
    assert values == [1, 1]
    assert Path(package / "linear" / "__pycache__").exists()


NOTICE = """
import logging, numba, stranger
from playfield.linear import jit
logging.basicConfig(level=logging.INFO, format="%(message)s")
jit.OURS = "__main__"
numba.njit(stranger.f)(1)
logging.info("now ours")
@jit.jit
def f(x):
    return x + 1
@jit.jit
def g(x):
    return x + 2
print(f(1), g(1))
"""


def test_compiling_is_logged_once_and_loading_from_the_cache_is_not(tmp_path):
    (tmp_path / "stranger.py").write_text("def f(x):\n    return x\n")
    (tmp_path / "notice.py").write_text(NOTICE)
    done = [subprocess.run([sys.executable, "notice.py"], cwd=tmp_path, capture_output=True, text=True) for _ in "12"]
    assert [d.stdout for d in done] == ["2 3\n"] * 2
    assert [d.stderr.splitlines() for d in done] == [
        ["now ours", "compiling for this machine (cached for later runs)"],
        ["now ours"],
    ]


ALL = """
from playfield.linear.many import experiment
from playfield.linear.episodes import entry_points
from playfield.linear.many import METHODS, configured
for method in METHODS:
    experiment(method, "random-walk", "onehot", seeds=[0], episodes=1)
    stats = configured(method, {})[0].play.stats
    print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""


def test_every_method_has_its_own_cached_copy_of_the_loop():
    """Q-learning's has the types of Sarsa(lambda)'s: only the name of its file on disk tells them apart."""
    modules = [configured(method, {})[0] for method in METHODS]
    assert len({module.play.py_func.__qualname__ for module in modules}) == len(METHODS)
    for module in modules:
        inside = module.play.py_func.__globals__
        assert (inside["begin"], inside["learn"]) == (module.begin, module.learn)
    exec(ALL, {})
    done = subprocess.run([sys.executable, "-c", ALL], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["1 0"] * len(METHODS)


def test_entry_points_leak_no_references() -> None:
    """A `kernel` that is called from Python leaks a reference to the random generator at every call."""
    coder = coder_for("identity", np.zeros(3), np.ones(3))
    for name in METHODS:
        module = importlib.import_module(f"playfield.algos.{name}")
        cfg = module.Config(alpha=0.1)
        h, rng = module.rates(cfg), np.random.default_rng(0)
        index, value = np.arange(4), np.ones(4)
        results = []
        for begin, learn in (entry_points(module.begin, module.learn), (module.begin.py_func, module.learn.py_func)):
            rng = np.random.default_rng(0)
            m = module.memory(2, coder, cfg)
            before = sys.getrefcount(rng)
            actions = [begin(m, h, rng, index, value, 4)]
            actions += [learn(m, h, rng, 1.0, index, value, 4, 0) for _ in range(50)]
            if not results:  # plain Python calls kernels itself
                assert sys.getrefcount(rng) == before, name
            results.append((actions, m.w.tolist()))
        assert results[0] == results[1], name


def test_without_numba_the_same_functions_run_as_plain_python_with_the_same_bits():
    code = (
        "from playfield.linear.many import experiment; from playfield.algos import sarsa;"
        "o = experiment('sarsa', 'random-walk', 'onehot', seeds=[3], episodes=20, max_steps=50, alpha=0.1);"
        "print(hasattr(sarsa.play, 'stats'), o.steps.tolist(), o.weights.tobytes().hex())"
    )
    told = []
    for disable in ("0", "1"):
        environment = {**os.environ, "NUMBA_DISABLE_JIT": disable}
        words = [sys.executable, "-c", code]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
        told.append(done.stdout.split(maxsplit=1))
    assert [t[0] for t in told] == ["True", "False"]
    assert told[0][1] == told[1][1]


def test_no_file_of_the_current_folder_says_where_compiled_code_is(tmp_path):
    """numba reads `.numba_config.yaml` there, with PyYAML, and unpickles the caches of the folder that it names."""
    (tmp_path / ".numba_config.yaml").write_text("cache_dir: theirs\ncache_locator_classes: evil.Locator\n")
    code = "from playfield.linear.kernels import dot; print(dot.stats.cache_path)"
    for own in ("", str(tmp_path / "mine")):
        given = {**os.environ, "NUMBA_CACHE_DIR": own}
        done = subprocess.run(
            [sys.executable, "-P", "-c", code], cwd=tmp_path, env=given, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        assert "theirs" not in done.stdout
        assert done.stdout.startswith(own)
    assert not (tmp_path / "theirs").exists()


def test_a_damaged_cache_is_written_again(tmp_path):
    """A power failure leaves empty files; every linear method then ended in a traceback, until they were removed."""
    code = (
        "import numpy as np; from playfield.linear.kernels import dot; f = np.arange(4.0); i = np.arange(4);"
        "print(dot(f[None], 0, i, f, 4), sum(dot.stats.cache_hits.values()))"
    )

    def told() -> str:
        given = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=given, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert told().endswith(" 0")
    for ending, left in (("nbi", b""), ("nbi", b"garbage"), ("nbc", None)):
        (file,) = tmp_path.rglob(f"*.{ending}")
        file.write_bytes(file.read_bytes()[:40] if left is None else left)
        assert told().endswith(" 0"), "compiled again"
    assert told().endswith(" 1"), "and cached"
