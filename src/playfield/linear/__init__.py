"""Linear methods: features, small problems and compiled loops; no neural networks, no replay.

Each algorithm is a file in `algos/`; here is what they share.
"""
