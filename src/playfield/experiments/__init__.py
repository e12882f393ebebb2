"""Many trainings: grids of environments, algorithms and seeds, where they run, and their comparison."""
