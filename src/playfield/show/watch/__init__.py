"""The live page: a web server that shows a game, what the agent thinks, and the run's curves."""
