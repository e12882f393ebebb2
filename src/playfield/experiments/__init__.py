"""Experiments of many trainings: grids of environments, algorithms and seeds, where they run, and their comparison.

`job` describes one training of a grid, `local` runs jobs on this machine, `compare` plans a grid and reads its
results. One training on its own belongs into `training`.
"""
