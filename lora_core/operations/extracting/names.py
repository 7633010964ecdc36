"""What an extraction writes and by which names: every tensor that both models hold, each once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ...errors import OptionError
from ...files.tensorheader import element_count
from ...naming.blocks import block_in
from ...naming.component import Component, WrittenName
from ...naming.dialects import BASE, WRITINGS
from ...naming.outlines import diffusers_names
from ...naming.targets import Target
from ...options.shared import WrittenDialect
from ...writing.names import written
from .comparison import Comparison


@dataclass(frozen=True, slots=True)
class NamedWeight:
    """A tensor, or a piece of one, and the name that it gets in the LoRA."""

    name: str
    component: Component
    written: WrittenName

    @property
    def target(self) -> Target:
        return self.written.target

    @property
    def size(self) -> int:
        return element_count(self.target.shape)

    @property
    def block(self) -> str:
        return block_in(self.component, self.written.module)

    @property
    def is_matrix(self) -> bool:
        """Whether a low rank can be found: biases, norms and embeddings of one row are stored whole."""
        return is_matrix(self.written)


def jobs_of(compared: Comparison, dialect: WrittenDialect) -> list[NamedWeight]:
    """Return every tensor that can be compared; the pieces of a fused weight follow one another.

    Raises OptionError where the dialect is for one model and the checkpoints hold more.
    """
    jobs = list(_jobs(compared, dialect))
    titles = {job.component.arch.title for job in jobs}
    if WRITINGS[dialect].is_for_one_model and len(titles) > 1:
        raise OptionError(
            f"dialect: a PEFT file is for one model, but both checkpoints hold {' and '.join(sorted(titles))}; "
            "choose diffusers."
        )
    return jobs


def is_matrix(name: WrittenName) -> bool:
    shape = name.target.shape
    return name.param == "weight" and len(shape) > 1 and min(shape[0], element_count(shape[1:])) > 1


def outside(components: Iterable[Component], total: int) -> int:
    """Return how many of `total` tensors belong to no known model."""
    return total - sum(len(component.keys()) for component in components)


def _jobs(compared: Comparison, dialect: WrittenDialect) -> Iterator[NamedWeight]:
    for component in compared.before.keymap.components:
        writing = WRITINGS[dialect]
        if writing.flat and component.roles[0] == BASE:
            writing = WRITINGS["comfy"]  # a text encoder that stands alone has no number
        for name, item in written(component, writing, diffusers_names(component.found)):
            if is_matrix(item) and compared.is_comparable(item.target.key):
                yield NamedWeight(name, component, item)
        for name, item in written(component, WRITINGS["comfy"]):  # whatever has no low rank
            if not is_matrix(item) and compared.is_comparable(item.target.key):
                yield NamedWeight(name, component, item)
