"""Timings and memory of LoRA Core, each paired with the limit of the machine; `python -m benchmarks` runs all."""
