"""The table of models: each with its editions, the layouts of its files and the trainers whose files were tried.

`python -m tests.modeltable` (`make models`) writes docs/models.md and the README's summary from lora_core/arch and
tests/data, and prints what every trainer's file finds of its model in every layout, with what is missing.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from textwrap import fill

from lora_core.arch import ARCHES, DIFFUSION_ARCHES, ENCODER_ARCHES
from lora_core.arch.base import Arch
from tests import manifests

REPO = Path(__file__).parents[1]
PAGE, README = REPO / "docs/models.md", REPO / "README.md"
BEGIN, END = "<!-- models: begin -->", "<!-- models: end -->"
HEAD = """# Models

Every model that LoRA Core knows, with its editions. *Files* says in which names files of it are read: *own* are those
of the makers or of ComfyUI, with any prefix; *diffusers* those of diffusers' folders where they are others. *Tried* are
the trainers of whose files for it the tests hold a key list; each of these finds all its modules, in every such layout.
A model that is not here is used by its own names. `make models` writes this page.
"""
# What stands before the kind of a trainer's file in its name, and the trainer's name
TRAINERS = (
    ("aitoolkit", "ai-toolkit"),
    ("bfl", "Black Forest Labs"),
    ("comfy", "ComfyUI"),
    ("diffsynth", "DiffSynth"),
    ("diffusers", "diffusers"),
    ("diffusion_pipe", "diffusion-pipe"),
    ("kohya", "kohya"),
    ("lightx2v", "LightX2V"),
    ("lycoris", "LyCORIS"),
    ("musubi", "musubi-tuner"),
    ("official", "the makers"),
    ("onetrainer", "OneTrainer"),
    ("peft", "PEFT"),
    ("simpletuner", "SimpleTuner"),
    ("uso", "USO"),
    ("wan_distill", "distilled Wan"),
    ("wan_fun", "Wan-Fun"),
    ("xlabs", "XLabs"),
)


@dataclass(frozen=True, slots=True)
class Model:
    """One architecture, and what of it is in tests/data."""

    title: str
    editions: tuple[str, ...]
    layouts: tuple[str, ...]
    trainers: tuple[str, ...]  # names of their files' lists


@cache
def models(archs: tuple[Arch, ...]) -> tuple[Model, ...]:
    """Return every architecture's row; encoders that differ in their layout alone, once."""
    lists = _lists()
    return tuple(_model(title, lists) for title in dict.fromkeys(arch.title for arch in archs))


def _model(title: str, lists: Mapping[str, Sequence[str]]) -> Model:
    of_title = [arch for arch in ARCHES if arch.title == title]
    ids = [one for arch in of_title for one in (arch.id, *(edition.id for edition in arch.editions))]
    names = [name for name in manifests.archs() if name.removeprefix("te_") in ids]
    has_diffusers = any(manifests.checkpoint(name).diffusers_keys for name in names)
    return Model(
        title,
        tuple(dict.fromkeys(edition.title for arch in of_title for edition in arch.editions)),
        ("own", "diffusers") if has_diffusers else ("own",),
        tuple(trained for one in dict.fromkeys(ids) for trained in lists.get(one, ())),
    )


def _lists() -> dict[str, list[str]]:
    """Return the trainers' lists of each model or edition; those of an edition with another's keys are that one's."""
    from tests.core.naming.test_trainers import model_of

    found: dict[str, list[str]] = {}
    for name in manifests.trainers():
        found.setdefault(manifests.checkpoint(model_of(name)).edition, []).append(name)
    return found


def trainer_titles(names: Iterable[str]) -> list[str]:
    """Return the trainers of some lists, in the order of their names."""
    return sorted({title for name in names for start, title in TRAINERS if name.startswith(start)}, key=str.lower)


def page() -> str:
    rows = ["| model | editions | files | tried |", "|---|---|---|---|", *map(_row, models(DIFFUSION_ARCHES))]
    encoders = ["| text encoder or language model | sizes and editions |", "|---|---|"]
    encoders += [f"| {one.title} | {'; '.join(one.editions) or '–'} |" for one in models(ENCODER_ARCHES)]
    return "\n".join((HEAD, *rows, "", *encoders)) + "\n"


def _row(model: Model) -> str:
    tried = ", ".join(trainer_titles(model.trainers)) or "–"
    return f"| {model.title} | {'; '.join(model.editions) or '–'} | {', '.join(model.layouts)} | {tried} |"


def summary() -> str:
    """Return what the README says of models."""
    diffusion, encoders = models(DIFFUSION_ARCHES), models(ENCODER_ARCHES)
    editions = sum(max(1, len(one.editions)) for one in diffusion)
    files = sum(len(one.trainers) for one in diffusion)
    text = (
        f"**{len(diffusion)} models in {editions} editions**: {', '.join(one.title for one in diffusion)}. "
        f"**{len(encoders)} text encoders and language models**, which LoRAs may be for too. "
        f"[docs/models.md](docs/models.md) has each with its editions and the trainers whose files were tried,"
        f" {files} files in all."
    )
    return fill(text, 140, break_long_words=False, break_on_hyphens=False)


def with_summary(text: str) -> str:
    """Return the README with the summary as the data gives it."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{summary()}\n{END}{rest.split(END)[1]}"


def missing() -> Iterator[str]:
    """Yield a line for each model of which tests/data has trainers' files: what each of them finds, in every layout."""
    from tests.keylist import checking

    for model in models(DIFFUSION_ARCHES):
        yield f"{model.title}: {', '.join(model.editions) or 'one edition'}"
        for trained in model.trainers:
            found = checking.unmatched(trained)
            yield f"  {trained}: " + ", ".join(f"{layout} {_result(names)}" for layout, names in found.items())
        if not model.trainers:
            yield "  no trainer's file was tried"


def _result(names: Sequence[str]) -> str:
    if not names:
        return "complete"
    kinds = Counter(re.sub(r"\d+", "#", name) for name in names)
    return f"lacks {', '.join(f'{name} ({count})' for name, count in kinds.items())}"


def write() -> None:
    PAGE.write_text(page(), encoding="utf-8")
    README.write_text(with_summary(README.read_text("utf-8")), encoding="utf-8")


if __name__ == "__main__":
    write()
    sys.stdout.writelines(f"{line}\n" for line in missing())
