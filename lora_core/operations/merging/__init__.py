"""Merging a stack of LoRAs into a checkpoint, and verifying a merged one."""
