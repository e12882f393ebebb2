"""Algorithms, one file each, named as on the command line; what several share begins with an underscore.

Saving, logging and the run directory belong in `runs`.
"""
