"""Rotations from what OFT files store: skew-symmetric matrices, and Cayley's map from these to rotations.

OFT: Qiu et al., arXiv:2306.07280. BOFT: Liu et al., arXiv:2311.06243. Cayley-Neumann: Qiu et al., arXiv:2506.19847.
"""

from __future__ import annotations

from ..lazytorch import torch

_NEVER_ZERO = 1e-8  # LyCORIS and kohya add it to the norm


def skew(blocks: torch.Tensor) -> torch.Tensor:
    """Return Q = B - B.T of every block, in fp32."""
    blocks = blocks.float()
    return blocks - blocks.transpose(-1, -2)


def skew_from_vectors(vectors: torch.Tensor) -> torch.Tensor:
    """Return (n, b, b) skew matrices whose upper triangles are the rows of (n, b(b - 1)/2)."""
    size = block_size_of(vectors.shape[1])
    rows, columns = torch.triu_indices(size, size, 1, device=vectors.device)
    upper = vectors.new_zeros((vectors.shape[0], size, size), dtype=torch.float32)
    upper[:, rows, columns] = vectors.float()
    return upper - upper.transpose(1, 2)


def block_size_of(entries: int) -> int:
    """Return b for the b(b - 1)/2 entries of an upper triangle, 0 if there is no such b."""
    size = round((1 + (1 + 8 * entries) ** 0.5) / 2)
    return size if size > 1 and size * (size - 1) // 2 == entries else 0


def limited(q: torch.Tensor, most: float) -> torch.Tensor:
    """Return Q with its norm over all blocks at most `most`."""
    norm = torch.linalg.vector_norm(q) + _NEVER_ZERO
    return q * (most / norm) if norm > most else q


def cayley(q: torch.Tensor) -> torch.Tensor:
    """Return the rotations (I + Q)(I - Q)^-1."""
    one = torch.eye(q.shape[-1], device=q.device)
    return torch.linalg.solve(one - q, one + q)  # the two factors commute


def cayley_neumann(q: torch.Tensor, terms: int) -> torch.Tensor:
    """Return what PEFT's Neumann series makes of `cayley`: I + 2Q + 2Q² + … + Q^n with n = terms - 1.

    The last power counts once. For fewer than four terms PEFT's series is I + 2Q + 2Q² + Q³ (3), I + 2Q (2), I (1).
    """
    result = torch.eye(q.shape[-1], device=q.device).expand_as(q).clone()
    last = max(terms - 1, 3) if terms > 2 else terms - 1
    power = q
    for exponent in range(1, last + 1):
        power = q if exponent == 1 else power @ q
        result += power if exponent == last and terms > 2 else 2 * power
    return result


def rotate_rows(rotations: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return R.T·W of each block of output rows, as LyCORIS and kohya turn them; rotations are (n, b, b)."""
    count, size, _ = rotations.shape
    blocks = weight.reshape(count, size, -1)
    return (rotations.transpose(1, 2) @ blocks).reshape(weight.shape)
