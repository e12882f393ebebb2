"""Linear learning: features, small problems, and many runs at once in compiled loops."""

from playfield.linear.runs import Outcome, experiment, values

__all__ = ["Outcome", "experiment", "values"]
