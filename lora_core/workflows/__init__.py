"""Workflow files: running their LoRA Core nodes without ComfyUI, rewriting the nodes of other packs."""
