"""One training from request to result: checked, planned, run, evaluated and filmed.

Many trainings together belong in `experiments`; what an algorithm computes belongs in `algos`.
"""
