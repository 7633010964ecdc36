"""Tensor names: dialects, the key map that is generated from an architecture, its detection, model parts and blocks."""
