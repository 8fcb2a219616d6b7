"""Models: what is computed, without how it is trained."""
