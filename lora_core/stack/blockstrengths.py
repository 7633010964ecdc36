"""Strengths of their own for some blocks of a model, by name and never by position.

A block is addressed by where an adapter lands, in the layout of the architecture, so a LoRA under diffusers' names and
the same under kohya's get the same strengths.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..arch.blockgroups import GROUP_TITLES
from ..errors import OptionError
from ..naming.blocks import ALL, ENCODERS, Block, ModelBlocks
from .blockterms import BlockStrengths, Term, parse_blocks


@dataclass(frozen=True)
class BlockFactors:
    """What the strength of a LoRA is multiplied with in each block of a model."""

    terms: tuple[Term, ...]  # presets written out
    asked: frozenset[Term]  # those that the user wrote
    _known: dict[Block, float] = field(default_factory=dict[Block, float])

    def of(self, block: Block) -> float:
        """Return the factor of a block: that of the last term that selects it, else 1."""
        if block not in self._known:
            values = (term.value for term in reversed(self.terms) if _selects(term, block))
            self._known[block] = next((value for value in values if value is not None), 1.0)
        return self._known[block]

    def unused(self, blocks: Iterable[Block]) -> list[str]:
        """Return which of the user's own terms select none of `blocks`."""
        found = set(blocks)
        terms = dict.fromkeys(term for term in self.terms if term in self.asked and term.name != ALL)
        return [term.selector for term in terms if not any(_selects(term, block) for block in found)]

    def told(self, blocks: Iterable[Block]) -> dict[str, float]:
        """Return the factors of `blocks` that are not 1, runs of numbers as one: {"double.0-4": 0.5, "te.clip_l": 0}"""
        runs: list[tuple[Term, float]] = []
        for name, number in sorted(set(blocks), key=lambda block: (block[0], block[1] or 0)):
            value, numbers = self.of((name, number)), None if number is None else (number, number)
            if runs and numbers and (joined := _joined(*runs[-1], name, numbers, value)):
                runs[-1] = joined, value
            else:
                runs.append((Term(name, numbers), value))
        return {term.selector: value for term, value in runs if value != 1}


def factors_on(strengths: BlockStrengths, model: ModelBlocks, where: str) -> BlockFactors:
    """Return the factors for a model.

    Raises OptionError, beginning with `where`, for a name or a number that the model does not have.
    """
    terms: list[Term] = []
    for term in strengths.terms:
        if term.value is None:
            terms += _written_out(term, model, where)
        else:
            _check(term, model, where)
            terms.append(term)
    return BlockFactors(tuple(terms), frozenset(strengths.terms))


def _joined(run: Term, of_run: float, name: str, numbers: tuple[int, int], value: float) -> Term | None:
    """Return the run with the next block in it, None if that is not the next of the same."""
    if run.numbers and run.name == name and of_run == value and run.numbers[1] + 1 == numbers[0]:
        return Term(name, (run.numbers[0], numbers[1]))
    return None


def _selects(term: Term, block: Block) -> bool:
    name, number = block
    if term.numbers is not None:
        return term.name == name and number is not None and term.numbers[0] <= number <= term.numbers[1]
    return term.name in (ALL, name) or (term.name == ENCODERS and name.startswith(f"{ENCODERS}."))


def _written_out(preset: Term, model: ModelBlocks, where: str) -> tuple[Term, ...]:
    text = model.presets.get(preset.name)
    if text is None and preset.name in model.names():
        raise OptionError(f"{where}: blocks: {preset.name!r} has no strength; write {preset.name}=0.5.")
    if text is None:
        raise OptionError(f"{where}: blocks: no preset {preset.name!r}{_known(preset.name, model)}")
    return parse_blocks(text).terms


def _check(term: Term, model: ModelBlocks, where: str) -> None:
    if term.name not in model.names():
        if not model.title and term.name in GROUP_TITLES:  # a text encoder alone: the stack may be for any model
            return
        raise OptionError(f"{where}: blocks: no blocks {term.name!r}{_known(term.name, model)}")
    if term.numbers is None:
        return
    there = model.groups.get(term.name, ())
    if not there:
        raise OptionError(f"{where}: blocks: {term.name!r} has no numbers here; write {term.name}={term.value:g}.")
    if not (term.numbers[0] in there and term.numbers[1] in there):
        raise OptionError(
            f"{where}: blocks: {term.selector!r} is out of range; {model.title} has {term.name}.{_range(there)}."
        )


def _known(name: str, model: ModelBlocks) -> str:
    """Return the end of an error: what is near the name, and all that there is."""
    presets = list(model.presets)
    near = difflib.get_close_matches(name, [*model.names(), *presets], n=2, cutoff=0.6)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else "."
    groups = [f"{group}.{_range(numbers)}" if numbers else group for group, numbers in model.groups.items()]
    more = f"; presets: {', '.join(presets)}" if presets else ""
    return f"{hint} {model.title or 'A model'} has {', '.join([*groups, *model.names()[len(groups) :]])}{more}."


def _range(numbers: Sequence[int]) -> str:
    return f"{numbers[0]}-{numbers[-1]}" if len(numbers) > 1 else str(numbers[0])
