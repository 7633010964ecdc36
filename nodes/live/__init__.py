"""Load LoRA: what it gives ComfyUI, and what it keeps between runs."""
