"""The replay buffer: storage in memory and on disk, prioritised sampling, and the memory that it needs.

Nothing here knows an algorithm.
"""
