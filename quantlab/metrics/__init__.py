"""How good a model is at its task: one measure a file."""
