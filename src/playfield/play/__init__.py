"""What acts and how well: policies, trained agents (shipped ones in `agents/`), full games, scores and intervals.

Nothing here trains.
"""
