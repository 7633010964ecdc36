"""The version of LoRA Core, told alone so that any module may ask."""

from __future__ import annotations

VERSION = "0.1.0"  # as in pyproject.toml
