"""Certified SVD, rank rules, factored products and rounding: matrices that know nothing of LoRA files."""
