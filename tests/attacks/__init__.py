"""Attacks on a running ComfyUI: hostile files, texts and prompts through every route and node of the pack.

`make attacks` starts the host and sends all of them; meanwhile it asks the host for its own state, again and again.
"""
