"""Neural networks: bodies, layers, the data-parallel learner, the auto-encoder, and summaries of sizes and speed.

Nothing here knows an environment's rules or an algorithm's loss.
"""
