"""A run's directory: the run itself, its description, checkpoints, logs, locks and the console.

Nothing here knows an algorithm or a network.
"""
