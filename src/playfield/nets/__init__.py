"""Neural networks: bodies, layers, the learner that updates them, the auto-encoder, and summaries of their sizes.

Nothing here knows an environment's rules or an algorithm's loss.
"""
