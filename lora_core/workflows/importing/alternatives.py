"""What stands around `<lora:…>` tags in a prompt: choices, of which one counts, schedules, wildcards and comments.

A choice is {a|b} (ComfyUI's page, Dynamic Prompts; 2$$ before it: two of them) or <random:a|b> (SwarmUI). Over the
steps go [a|b], [a:b:0.5] (A1111, Prompt Control), <alternate:a,b> and <fromto[0.5]:a,b> (SwarmUI).
"""

from __future__ import annotations

import re
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
    with_tags: dict[int, int] = field(default_factory=dict[int, int])  # its branches with a tag in them -> their order


@dataclass(slots=True)
class _Place:
    """A branch of a group, inside of another: what this means for a tag in it is told when all groups are read."""

    group: _Group
    branch: int
    outer: _Place | None
    kinds: frozenset[Kind] = frozenset()  # of it and those around it that have more than one branch
    others: frozenset[Kind] = frozenset()  # of those in which this is not a chosen branch

    def tell(self) -> None:
        if self.outer is not None:
            self.kinds, self.others = self.outer.kinds, self.outer.others
        if self.group.closed and self.group.branch:
            own = frozenset((self.group.kind,))
            self.kinds |= own
            if self.group.with_tags[self.branch] >= self.group.picks:
                self.others |= own


@dataclass(slots=True)
class FoundTag:
    """A tag, and the innermost branch that it stands in."""

    match: re.Match[str]
    place: _Place | None = None

    def kinds(self) -> frozenset[Kind]:
        """Return what it stands in that has more than one branch."""
        return self.place.kinds if self.place else frozenset()

    def is_chosen(self, kind: Kind) -> bool:
        """Return whether it is in the first branch, with a tag, of everything of this kind around it."""
        return self.place is None or kind not in self.place.others


def tags_of(text: str) -> tuple[list[FoundTag], list[str]]:
    """Return the tags of a text in order, and the wildcards in it."""
    found: list[FoundTag] = []
    wildcards: list[str] = []
    stack: list[_Group] = []
    places: list[_Place] = []  # of those groups on the stack that have had a tag, from the outside
    all_places: list[_Place] = []
    for match in _TOKEN.finditer(text):
        sign = match["sign"] or ("<" if match["swarm"] else "")
        if match["tag"]:
            all_places += _entered(stack, places)
            found.append(FoundTag(match, places[-1] if places else None))
        elif match["wildcard"] or match["wild"]:
            wildcards.append(match[0])
        elif sign in ("{", "[", "<"):
            stack.append(_group(sign, match, text))
        elif stack and sign and sign in _PARTS[stack[-1].opening]:
            stack[-1].branch += 1
            del places[len(stack) - 1 :]
        elif stack and _ENDS.get(sign) == stack[-1].opening:
            stack.pop().closed = True
            del places[len(stack) :]
    for place in all_places:
        place.tell()
    return found, list(dict.fromkeys(wildcards))


def _entered(stack: list[_Group], places: list[_Place]) -> list[_Place]:
    """Add the places of the groups that a tag is the first in, or the first in this branch, and return them."""
    new: list[_Place] = []
    for group in stack[len(places) :]:
        group.with_tags[group.branch] = len(group.with_tags)
        places.append(_Place(group, group.branch, places[-1] if places else None))
        new.append(places[-1])
    return new


def _group(sign: str, match: re.Match[str], text: str) -> _Group:
    is_choice = sign == "{" or match[0].lower().startswith("<random")
    picks = _PICKS.match(text, match.start())
    return _Group(sign, "choice" if is_choice else "steps", int(picks[1][:6]) if picks else 1)


def variants(text: str) -> list[str]:
    """Return what a tag may come to: each of its own choices, {a|b}, in turn; the first comes first."""
    found = [text]
    while len(found) < _MOST_VARIANTS and (match := _CHOICE.search(found[0])):
        options = match[1].split("|")[:_MOST_VARIANTS]
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
