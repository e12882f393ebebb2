"""Pictures of agents and runs: films, plots, saliency, explanations; `watch/` is the live page.

Nothing here trains.
"""
