"""Pictures of agents and runs: films, plots, saliency, explanations; `watch/` is the live page.

It plays agents and reads runs; nothing here trains or changes a run's checkpoints.
"""
