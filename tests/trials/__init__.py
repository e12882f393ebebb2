"""Trials of the installed package: what reliability means, tried many times, with what was seen written down.

`scripts/trials --list` names them; docs/design/trials.md has the table of results.
"""
