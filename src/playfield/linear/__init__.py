"""Linear methods: features, small problems, compiled loops, and many runs of them at once."""
