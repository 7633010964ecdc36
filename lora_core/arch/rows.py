"""Rename rows that many architectures have."""

from __future__ import annotations

from .base import Rename


def fused(at: str, names: str = "to_#", there: str = "to_qkv", parts: str = "qkv") -> Rename:
    """Return the row of what diffusers fuses in fuse_qkv_projections; `names` has `#` for query, key and value."""
    return Rename(tuple(at + names.replace("#", part) for part in parts), at + there, read_only=True)


def split(here: str, at: str, names: str = "to_#", parts: str = "qkv") -> Rename:
    """Return the row of a fused module that others split into query, key and value, or into key and value."""
    return Rename(here, tuple(at + names.replace("#", part) for part in parts))


def renamed_below(here: str, there: str, *names: str | tuple[str, str]) -> tuple[Rename, ...]:
    """Return the rows of modules below one name: each by its name, or by that here and that there."""
    pairs = ((name, name) if isinstance(name, str) else name for name in names)
    return tuple(Rename(here + own, there + other) for own, other in pairs)
