"""Metadata, data files and checks of the package, without building it; `scripts/package` builds and installs it."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import playfield

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "playfield"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = PYPROJECT["project"]
VERSION = PROJECT["version"]
SOURCES = sorted(PACKAGE.rglob("*.py"))


def load(path: str):
    """A YAML file of the repository."""
    return yaml.safe_load((ROOT / path).read_text("utf-8"))


def steps(job: str) -> list[str]:
    """The shell commands of a job of the workflow."""
    return [s["run"] for s in load(".github/workflows/check.yml")["jobs"][job]["steps"] if "run" in s]


def checks() -> list[str]:
    """The commands of scripts/check but pytest."""
    lines = (ROOT / "scripts/check").read_text("utf-8").splitlines()
    return [line for line in lines if re.match(r"(ruff|mypy)\b", line)]


# Version -----------------------------------------------------------------------------------------------------


def test_the_version_is_that_of_pyproject():
    assert playfield.__version__ == VERSION, "after a change of version: pip install -e ."
    assert load("CITATION.cff")["version"] == VERSION


def test_no_source_file_repeats_the_version():
    for file in SOURCES:
        assert VERSION not in file.read_text("utf-8"), file.name


def test_the_changelog_has_the_version_below_unreleased():
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    heads = re.findall(r"^## (.*)$", text, re.M)
    assert heads[0] == "[Unreleased]"
    assert re.fullmatch(rf"\[{re.escape(VERSION)}\] - \d{{4}}-\d\d-\d\d", heads[1])
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", head) for head in heads[1:])
    groups = set(re.findall(r"^### (.*)$", text, re.M))
    assert groups <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


# Files -------------------------------------------------------------------------------------------------------


def hidden(path: Path) -> bool:
    """Caches of Python and of tools."""
    return any(part == "__pycache__" or part.startswith(".") for part in path.relative_to(PACKAGE).parts)


def test_package_data_is_every_file_that_is_not_python():
    globs = PYPROJECT["tool"]["setuptools"]["package-data"]["playfield"]
    found = {glob: {p for p in PACKAGE.glob(glob) if p.is_file()} for glob in globs}
    assert all(found.values()), f"globs that match nothing: {[g for g, files in found.items() if not files]}"
    data = {p for p in PACKAGE.rglob("*") if p.is_file() and p.suffix != ".py" and not hidden(p)}
    covered = set().union(*found.values())
    assert data == covered, f"not covered: {sorted(data - covered)}; not data: {sorted(covered - data)}"


def test_every_folder_with_modules_is_a_package():
    """Setuptools leaves out folders without __init__.py."""
    assert not {f.parent for f in SOURCES if not (f.parent / "__init__.py").exists()}


def test_the_readme_and_the_licence_are_there():
    assert (ROOT / PROJECT["readme"]).is_file()
    assert all((ROOT / name).is_file() for name in PROJECT["license-files"])


def test_the_manifest_covers_every_tracked_file():
    """A line of MANIFEST.in matches each tracked file."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git repository")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lines = [line.split() for line in (ROOT / "MANIFEST.in").read_text("utf-8").splitlines()]
    folders = tuple(f"{words[1]}/" for words in lines if words[:1] == ["graft"])
    patterns = [pattern for words in lines if words[:1] == ["include"] for pattern in words[1:]]
    left_out = [
        name
        for name in tracked.splitlines()
        if not name.startswith(folders) and not ("/" not in name and any(Path(name).match(p) for p in patterns))
    ]
    assert not left_out
    assert all((ROOT / folder).is_dir() for folder in folders)


def test_archives_are_compared_file_by_file(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import compare_archives

    tracked = {"a": b"1", "b": b"2", "c": b"3"}
    assert compare_archives.differences(tracked, tracked) == []
    assert compare_archives.differences({"a": b"1", "b": b"", "d": b""}, tracked) == [
        "contents differ: b",
        "missing: c",
        "not tracked by git: d",
    ]


# Metadata ----------------------------------------------------------------------------------------------------


def test_every_module_that_the_package_imports_is_a_dependency():
    extras = PROJECT["optional-dependencies"]
    words = [*PROJECT["dependencies"], *extras["bench"], *extras["tune"], *extras["ray"]]
    declared = {re.match(r"[\w.-]+", word)[0].lower().replace("_", "-") for word in words}
    modules = set()
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules.add((node.module or "").partition(".")[0])
    homes = importlib.metadata.packages_distributions()
    missing = []
    for module in sorted(modules - set(sys.stdlib_module_names) - {"playfield"}):
        names = {name.lower().replace("_", "-") for name in homes.get(module, [module.replace("_", "-")])}
        if not names & declared:
            missing.append(module)
    assert not missing


def test_the_command_is_a_function():
    module, _, name = PROJECT["scripts"]["playfield"].partition(":")
    assert callable(getattr(importlib.import_module(module), name))


def test_types_are_declared_and_shipped():
    assert "Typing :: Typed" in PROJECT["classifiers"]
    assert (PACKAGE / "py.typed").is_file()


def test_the_citation_has_what_the_format_requires():
    citation = load("CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert citation["authors"] == PROJECT["authors"]
    assert citation["license"] == PROJECT["license"]
    assert {"message", "title", "version"} <= citation.keys()


# Checks ------------------------------------------------------------------------------------------------------


def test_pre_commit_runs_the_lines_of_scripts_check():
    repos = load(".pre-commit-config.yaml")["repos"]
    assert [repo["repo"] for repo in repos] == ["local"], "a hook of another repository is downloaded"
    assert [hook["entry"] for hook in repos[0]["hooks"]] == checks()
    assert len(checks()) == 3
    assert all(hook["language"] == "system" and not hook["pass_filenames"] for hook in repos[0]["hooks"])


def test_hosted_ci_calls_the_scripts():
    install = "pip install -e '.[dev]'"
    assert steps("check") == [install, "scripts/check"]
    assert steps("package") == [install, "scripts/package"]
    assert steps("ray") == ["pip install -e '.[test,ray]'", "pytest -n 0 tests/test_ray.py"]


def test_hosted_ci_has_the_versions_of_python_that_the_package_claims():
    matrix = load(".github/workflows/check.yml")["jobs"]["check"]["strategy"]["matrix"]["python"]
    claimed = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert matrix == claimed
    assert PROJECT["requires-python"] == f">={claimed[0]}"


def test_hosted_ci_names_test_files_that_exist():
    for job in ("ray", "other-systems"):
        names = [word for run in steps(job) for word in run.split() if word.startswith("tests/")]
        assert names
        assert all((ROOT / name).is_file() for name in names)


def test_the_ci_script_calls_the_same_scripts():
    text = (ROOT / ".ci/run").read_text("utf-8")
    for call in ("\nscripts/check lint\n", "\nscripts/package ", "scripts/docs\n", f"\n{steps('ray')[-1]}\n"):
        assert call in text


def test_scripts_can_be_executed():
    for name in ("scripts/check", "scripts/package", ".ci/run"):
        assert (ROOT / name).read_text("utf-8").startswith("#!/usr/bin/env bash\n")
        done = subprocess.run(["bash", "-n", ROOT / name], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_scripts_check_refuses_an_unknown_word():
    done = subprocess.run(["bash", ROOT / "scripts/check", "lnit"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "usage" in done.stderr


@pytest.mark.parametrize("path", sorted(ROOT.glob(".github/ISSUE_TEMPLATE/*.yml")), ids=lambda p: p.stem)
def test_issue_forms_have_fields(path):
    form = load(str(path.relative_to(ROOT)))
    if path.stem == "config":
        assert isinstance(form["blank_issues_enabled"], bool)
        return
    assert {"name", "description", "body"} <= form.keys()
    ids = [field["id"] for field in form["body"]]
    assert len(set(ids)) == len(ids)
    assert all(field["attributes"]["label"] for field in form["body"])


def test_nothing_names_an_index_host():
    """Packages come from wherever pip is configured to look."""
    for name in (".ci/run", "scripts/check", "scripts/package", "pyproject.toml", ".github/workflows/check.yml"):
        assert not re.search(r"index-url|find-links|://", (ROOT / name).read_text("utf-8")), name
