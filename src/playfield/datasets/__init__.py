"""Datasets of recorded play: collecting, storing and reading them, and training an auto-encoder on one.

Nothing here trains a policy; the auto-encoder's network is in `nets`.
"""
