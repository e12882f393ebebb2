"""Recorded play: collected, stored and read again, and the auto-encoder trained on it."""
