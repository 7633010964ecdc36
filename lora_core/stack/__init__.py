"""A stack of LoRAs: rows and entries, strengths of blocks, matching it to a model, applying it."""
