"""torch, imported on first use: `inspect` and the command line's help must not wait seconds for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch as torch
else:

    class _LazyTorch:
        def __getattr__(self, name: str) -> Any:
            import torch  # a plain import, which every scanner and packager understands

            return getattr(torch, name)

    torch = _LazyTorch()
