"""LoRA files and checkpoints, opened lazily: what they are is known without tensor data."""
