"""The live page of `playfield watch`: a web server that shows a game, the agent's outputs and the run's curves."""
