"""What stands around `<lora:…>` tags in a prompt: choices, of which one counts, schedules, wildcards and comments.

A choice is {a|b} (ComfyUI's page, Dynamic Prompts; 2$$ before it: two of them) or <random:a|b> (SwarmUI). Over the
steps go [a|b], [a:b:0.5] (A1111, Prompt Control), <alternate:a,b> and <fromto[0.5]:a,b> (SwarmUI).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["choice", "steps"]

_TOKEN = re.compile(
    r"\\."
    r"|(?P<tag><(?:lora|lyco):[^<>]*>)"
    r"|(?P<swarm><(?:random|alternate|fromto)[^:<>]*:)"
    r"|(?P<wildcard>__[\w*][\w\-/. *]*?__)|<(?P<wild>wildcard:[^<>]*)>"
    r"|(?P<sign>[{}\[\]|:,>])",
    re.IGNORECASE,
)
_PICKS = re.compile(r"\{\s*(\d+)(?:-\d+)?\$\$")
_CHOICE = re.compile(r"\{([^{}|]*\|[^{}]*)\}")
_COMMENT = re.compile(r"/\*|//[^\n]*")
_ENDS = {"}": "{", "]": "[", ">": "<"}
_PARTS = {"{": "|", "[": "|:", "<": "|,"}  # what stands between the branches of each
_MOST_VARIANTS = 64


@dataclass(slots=True)
class _Group:
    opening: str
    kind: Kind
    picks: int = 1
    branch: int = 0
    closed: bool = False
    with_tags: list[int] = field(default_factory=list[int])  # its branches that have a tag in them, in order

    def is_chosen(self, branch: int) -> bool:
        return branch in self.with_tags[: self.picks]


@dataclass(slots=True)
class FoundTag:
    """A tag, and the groups around it with the branch of each that it stands in."""

    match: re.Match[str]
    around: list[tuple[_Group, int]] = field(default_factory=list[tuple[_Group, int]])

    def kinds(self) -> set[Kind]:
        """Return what it stands in that has more than one branch."""
        return {group.kind for group, _ in self._groups()}

    def is_chosen(self, *kinds: Kind) -> bool:
        """Return whether it is in the first branch, with a tag, of everything of these kinds around it."""
        return all(group.is_chosen(branch) for group, branch in self._groups() if group.kind in kinds)

    def _groups(self) -> Iterator[tuple[_Group, int]]:
        return ((group, branch) for group, branch in self.around if group.closed and group.branch)


def tags_of(text: str) -> tuple[list[FoundTag], list[str]]:
    """Return the tags of a text in order, and the wildcards in it."""
    found: list[FoundTag] = []
    wildcards: list[str] = []
    stack: list[_Group] = []
    for match in _TOKEN.finditer(text):
        sign = match["sign"] or ("<" if match["swarm"] else "")
        if match["tag"]:
            found.append(FoundTag(match, [(group, group.branch) for group in stack]))
            for group in stack:
                group.with_tags += [] if group.branch in group.with_tags else [group.branch]
        elif match["wildcard"] or match["wild"]:
            wildcards.append(match[0])
        elif sign in ("{", "[", "<"):
            stack.append(_group(sign, match, text))
        elif stack and sign and sign in _PARTS[stack[-1].opening]:
            stack[-1].branch += 1
        elif stack and _ENDS.get(sign) == stack[-1].opening:
            stack.pop().closed = True
    return found, list(dict.fromkeys(wildcards))


def _group(sign: str, match: re.Match[str], text: str) -> _Group:
    is_choice = sign == "{" or match[0].lower().startswith("<random")
    picks = _PICKS.match(text, match.start())
    return _Group(sign, "choice" if is_choice else "steps", int(picks[1][:6]) if picks else 1)


def variants(text: str) -> list[str]:
    """Return what a tag may come to: each of its own choices, {a|b}, in turn; the first comes first."""
    found = [text]
    while len(found) < _MOST_VARIANTS and (match := _CHOICE.search(found[0])):
        options = match[1].split("|")
        found = [one.replace(match[0], option, 1) for option in options for one in found]
    return found[:_MOST_VARIANTS]


def comments(text: str, *, hashes: bool) -> list[tuple[int, int]]:
    """Return where the comments of a text are: after # in A1111, else as ComfyUI's page takes them out."""
    if hashes:
        return [match.span() for match in re.finditer(r"#[^\n]*", text)]
    found: list[tuple[int, int]] = []
    at, last = 0, text.rfind("*/")
    while match := _COMMENT.search(text, at):
        at = match.end()
        if match[0] == "/*":
            if last < at:  # it is never closed
                continue
            at = text.index("*/", at) + 2
        found.append((match.start(), at))
    return found
