"""Labels of a comparison in its tables: text of a user, or of a stranger's file."""

from __future__ import annotations

from compare_runs import runs
from playfield.cli import main

A, C = "Acrobot-v1", "CartPole-v1"


def test_labels_are_shown_as_they_are_whatever_brackets_they_hold(tmp_path, capsys):
    """No tag of a label is a style, a link or an error in the tables."""
    names = ["[bold]a[/x]", "b [link=http://c]"]
    runs(tmp_path, {name: {C: [100.0, 200.0], A: [-90.0, -80.0]} for name in names})
    assert main(["compare", "--dir", str(tmp_path), "--aggregate"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert told.count("[bold]a[/x]") >= 3
    assert told.count("b [link=http://c]") >= 3


def test_a_label_that_moves_the_cursor_is_damage(tmp_path, capsys):
    runs(tmp_path, {"dqn": {C: [100.0]}})
    told = next(tmp_path.rglob("compare.json"))
    told.write_text(told.read_text().replace('"dqn"', '"dqn\\u001b[2J"', 1))
    assert main(["compare", "--dir", str(tmp_path)]) == 3
    assert "cannot be printed" in capsys.readouterr().err
    assert main(["compare", C, "--algo", "dqn\x1b[2J", "--steps", "9", "--dir", str(tmp_path / "new")]) == 2
    assert "\x1b" not in capsys.readouterr().err
