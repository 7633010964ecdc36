"""How alike two names of a module are, by the words in them and what these are otherwise called."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from functools import cache

# What models call one thing, the word that stands for it first
_SAME = (
    "q query wq",
    "k key wk",
    "v value wv",
    "out o wo output final last head",
    "txt text context added add encoder y cap caption c cond condition prompt encoded llm",
    "img image video vid x visual latent hidden",
    "audio sound a aud",
    "norm ln layernorm rmsnorm layer",
    "mod modulation adaln ada adanorm modulate",
    "mlp ff ffn feed forward feedforward fc swiglu",
    "time t timestep temb timesteps step sigma",
    "in input patch patchify first embed embedder embedding emb patches",
    "attn attention attend msa attns",
    "cross attn2 ca xattn",
    "self attn1 sa",
    "pool pooled vector clip",
    "gate gating",
    "table tables",
    "second 2nd",
)
_WORDS = {word: group.split()[0] for group in _SAME for word in group.split()}
# Words that most names have and that tell little
_WEAK = {"to", "proj", "linear", "lin", "layer", "layers", "blocks", "block", "transformer", "net", "model", "single"}
_SPLIT = re.compile(r"[._\-]|(?<=[a-z])(?=[A-Z])|(?<=\d)(?=[a-z])")
_WHOLE = {  # several words, or several things in one
    "qkv": ("q", "k", "v"),
    "kv": ("k", "v"),
    "wqkv": ("q", "k", "v"),
    "qknorm": ("norm",),
    "qnorm": ("q", "norm"),
    "knorm": ("k", "norm"),
    "attn1": ("attn", "self"),
    "attn2": ("attn", "cross"),
    "tmlp": ("time", "mlp"),
    "txtmlp": ("txt", "mlp"),
    "txtfusion": ("txt", "fusion"),
    "tproj": ("time",),
    "prenorm": ("norm",),
    "postnorm": ("norm",),
}


@cache
def words(name: str) -> dict[str, float]:
    """Return the words of a name, each with its weight."""
    found: dict[str, float] = {}
    for token in _SPLIT.split(name):
        for word in _WHOLE.get(token.lower(), (re.sub(r"(?<=[a-z])\d+$", "", token.lower()),)):
            same = _WORDS.get(word, word)
            if same and not same.startswith("{") and not same.isdecimal():
                found[same] = max(found.get(same, 0), 0.2 if word in _WEAK else 1)
    return found


@cache
def likeness(name: str, other: str) -> float:
    """Return how alike two names are, from 0 to 1."""
    if name == other:
        return 1
    mine, theirs = words(name), words(other)
    every = mine.keys() | theirs.keys()
    common = sum(min(mine.get(word, 0), theirs.get(word, 0)) for word in every)
    total = sum(max(mine.get(word, 0), theirs.get(word, 0)) for word in every)
    letters = SequenceMatcher(None, name, other, autojunk=False).ratio()
    return 0.75 * common / (total or 1) + 0.2 * letters


# One of several that are often fused, and the place in the usual order
ROLES = ("q", "k", "v")


def role(name: str) -> tuple[str, str] | None:
    """Return (the name with "#" for the role, the role) of a query, key or value; None of others."""
    parts = re.split(r"([._]|(?<=\d)(?=[a-z]))", name)
    for number in range(len(parts) - 1, -1, -1):
        word = _WORDS.get(parts[number], parts[number])
        if word in ROLES:
            return "".join((*parts[:number], "#", *parts[number + 1 :])), word
    return None
