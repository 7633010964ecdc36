"""The parts of Extract: what is compared, what changed in a layer, how it is written, and what it is worth."""
