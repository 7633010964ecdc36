"""A model's key list as leaves: modules that lie at the same place of every block, under one template."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod

from lora_core.arch.base import Shape, Shapes

_SPELLED = {"gamma": "weight", "beta": "bias"}  # which rows have to name in full
PARAMS = {
    "weight": "weight",
    "bias": "bias",
    "scale": "weight",
    **_SPELLED,
}  # what is a parameter of the module that it ends
_MANY = 3  # numbers of single layers that make a list


_Member = tuple[str, tuple[Shape, frozenset[str], tuple[tuple[str, str], ...]]]


@dataclass(frozen=True, slots=True)
class Leaf:
    """Modules of one place in every block, or one module outside of blocks."""

    owner: str  # template of the blocks that it is in, with the last dot; "" outside of blocks
    full: str  # its name, a template
    shape: Shape  # of its weight
    params: frozenset[str]
    count: int  # of blocks that have it
    spelling: tuple[tuple[str, str], ...] = ()  # parameters that another word stands for: ("weight", "gamma")

    @property
    def name(self) -> str:
        """Its name in the block."""
        return ".".join(self.full.split(".")[self.owner.count(".") :])

    @property
    def numbers(self) -> tuple[str, ...]:
        """The numbers of its blocks, or their placeholders."""
        pairs = zip(self.owner.split("."), self.full.split("."), strict=False)
        return tuple(word for place, word in pairs if place.startswith("{"))

    @property
    def matrix(self) -> tuple[int, int]:
        """The output and input of its weight, seen as a matrix; the input of a vector is 0."""
        return (*self.shape[:1], 1)[0], prod(self.shape[1:]) if len(self.shape) > 1 else 0


def leaves(shapes: Shapes) -> list[Leaf]:
    """Return the leaves of a list of keys without prefix, in its order."""
    lists = block_lists(shapes)
    modules: dict[str, dict[str, tuple[str, Shape]]] = {}
    for key, shape in shapes.items():
        head, _, last = key.rpartition(".")
        module, param = (head, PARAMS[last]) if head and last in PARAMS else (key, "weight")
        modules.setdefault(module, {})[param] = last, shape
    found: dict[str, list[_Member]] = {}
    for module, params in modules.items():
        _, shape = params["weight"] if "weight" in params else params["bias"]
        spelling = tuple((param, last) for param, (last, _) in params.items() if last in _SPELLED)
        found.setdefault(template(module, lists), []).append((module, (shape, frozenset(params), spelling)))
    several = {_owner(name) for name, members in found.items() if len(members) > 1}
    return [leaf for name, members in found.items() for leaf in _of_one_place(name, members, several)]


def _owner(name: str) -> str:
    return name[: name.rfind("}.") + 2] if "}." in name else ""


def _of_one_place(name: str, members: list[_Member], several: set[str]) -> Iterator[Leaf]:
    """Yield the leaf of most blocks, and one by its number of each block where the module is another."""
    owner = _owner(name)
    (shape, params, spelling), _ = Counter(kind for _, kind in members).most_common(1)[0]
    is_one = len(members) == 1 and owner in several
    yield Leaf(owner, members[0][0] if is_one else name, shape, params, len(members), spelling)
    for module, kind in members:
        if kind[:2] != (shape, params):
            yield Leaf(owner, module, *kind[:2], 1, kind[2])


def template(name: str, lists: frozenset[str]) -> str:
    """Return a name with a placeholder for the number of every block."""
    tokens: list[str] = []
    for token in name.split("."):
        is_block = token.isdecimal() and ".".join(tokens) in lists
        tokens.append("{" + "ij"["{i}" in tokens] + "}" if is_block else token)
    return ".".join(tokens)


def block_lists(shapes: Shapes) -> frozenset[str]:
    """Return the templates of what has a number for each block; outer lists first, for they are a part of the inner."""
    lists: frozenset[str] = frozenset()
    for _ in range(2):
        children: dict[str, dict[str, set[tuple[str, Shape]]]] = {}
        for key, shape in shapes.items():
            tokens = template(key, lists).split(".")
            for place, token in enumerate(tokens[1:], 1):
                if token.isdecimal() and sum(one.startswith("{") for one in tokens[:place]) < 2:
                    below = (".".join(tokens[place + 1 :]), shape)
                    children.setdefault(".".join(tokens[:place]), {}).setdefault(token, set()).add(below)
        new = {parent for parent, numbers in children.items() if _is_list(numbers)}
        if not new:
            break
        lists |= {parent for parent in new if not any(_is_inside(parent, other) for other in new)}
    return lists


def _is_inside(name: str, other: str) -> bool:
    return name.startswith(other + ".")


def _is_list(numbers: dict[str, set[tuple[str, Shape]]]) -> bool:
    """Tell whether what lies below each number is alike: blocks, and not the layers of a sequence."""
    names = [frozenset(name for name, _ in below) for below in numbers.values()]
    if max(map(_modules, names)) < 2:  # single layers
        first, *others = numbers.values()
        return len(numbers) >= _MANY and all(one == first for one in others)
    most, every = max(names, key=len), frozenset[str]().union(*names)
    return all(len(one & most) > len(every) / 2 for one in names)


def _modules(names: Iterable[str]) -> int:
    return len({name.rpartition(".")[0] if name.rpartition(".")[2] in PARAMS else name for name in names})
