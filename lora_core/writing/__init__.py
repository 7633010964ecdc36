"""A LoRA file to be written: names in a dialect, factors at a rank, metadata, PEFT's configuration."""
