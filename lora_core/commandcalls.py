"""What each sub-command of `lora-core` calls with its arguments: CALLS, which gives back reports."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from .combine import combine
from .convert import convert
from .demo import demo
from .errors import OptionError
from .extract import extract
from .files.tensorfile import OnStep
from .importing import import_workflow, lora_names, rows_of_text
from .importing.text import TextRows
from .inspect import inspect
from .leftovers import LeftoversReport, leftovers
from .merge import merge
from .options import EXTRACT
from .report import Report
from .resize import resize
from .stack import check_strength
from .verify import verify
from .workflow import run

_BLOCKS = "blocks="
_RANK_OPTIONS = ("rank", "energy", "max_rank", "rank_by", "threshold")


def _inspect(options: argparse.Namespace, on_step: OnStep | None) -> list[Report]:
    stack = [_lora(values, "--stack") for values in options.stack]
    return [inspect(options.file, options.against, stack=stack, spectra=options.spectra, on_step=on_step)]


def _merge(options: argparse.Namespace, on_step: OnStep | None) -> list[Report]:
    loras = [_lora(values) for values in options.lora]
    given = _given(options, "dtype", "semantics", "on_unmatched", "verify", "overwrite")
    return [merge(options.base, loras, options.out, **given, on_step=on_step)]


def _verify(options: argparse.Namespace, on_step: OnStep | None) -> list[Report]:
    loras = [_lora(values) if len(values) > 1 else values[0] for values in options.lora]
    return [verify(options.file, base=options.base, loras=loras, search=options.search, on_step=on_step)]


def _extract(options: argparse.Namespace, on_step: OnStep | None) -> list[Report]:
    given = _given(options, *(option.name for option in EXTRACT.options if option.name not in ("base", "tuned")))
    given |= _given(options, "overwrite")
    loras = [_lora(values) for values in options.lora]
    return [extract(options.base, options.tuned, options.out, loras=loras, **given, on_step=on_step)]


def _convert(options: argparse.Namespace, on_step: OnStep | None) -> list[Report]:
    given = _given(options, "dialect", "arch", "base", "kind", "rank", "dtype", "on_unmatched", "overwrite")
    return [convert(options.file, options.out, **given, on_step=on_step)]


def _resize(options: argparse.Namespace, on_step: OnStep | None) -> list[Report]:
    given = _given(options, *_RANK_OPTIONS, "conv_rank", "dtype", "base", "overwrite")
    return [resize(options.file, options.out, **given, on_step=on_step)]


def _combine(options: argparse.Namespace, on_step: OnStep | None) -> list[Report]:
    given = _given(options, "method", *_RANK_OPTIONS, "density", "sign", "seed", "dialect", "dtype", "overwrite")
    given |= _given(options, "arch", "base", "on_unmatched")
    loras = [_lora(values) for values in options.lora]
    return [combine(loras, options.out, **given, on_step=on_step)]


def _run(options: argparse.Namespace, on_step: OnStep | None) -> list[Report]:
    return run(options.workflow, models=options.models, output=options.output, on_step=on_step)


def _import(options: argparse.Namespace, on_step: OnStep | None) -> list[Report] | list[TextRows]:
    if options.text is not None:
        if options.out is not None:
            raise OptionError("--text prints rows; --out is for a workflow file.")
        rows = rows_of_text(options.text, **_given(options, "dialect"), names=lora_names(options.models))
        sys.stderr.writelines(f"{note}\n" for note in rows.notes)  # visible as they are
        return [rows]
    if options.out is None:
        raise OptionError("--out: say which file to write.")
    return [import_workflow(options.file, options.out, models=options.models, **_given(options, "to", "overwrite"))]


def _leftovers(options: argparse.Namespace, on_step: OnStep | None) -> list[LeftoversReport]:
    return [leftovers(options.folder, remove=options.remove)]


def _demo(options: argparse.Namespace, on_step: OnStep | None) -> list[Report]:
    return demo(options.folder)


def _lora(values: Sequence[str], flag: str = "--lora") -> tuple[Any, ...]:
    name, *rest = values
    blocks = rest.pop().removeprefix(_BLOCKS) if rest and rest[-1].startswith(_BLOCKS) else ""
    if len(rest) > 2:
        raise OptionError(f"{flag}: expected FILE [STRENGTH [CLIP_STRENGTH]] [blocks=TEXT], found {' '.join(values)}.")
    strengths = [check_strength(value, f"{flag} {name}") for value in rest]
    model = strengths[0] if strengths else 1.0
    return name, model, strengths[1] if len(strengths) > 1 else model, blocks


def _given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    return {name: getattr(options, name) for name in names if hasattr(options, name)}


CALLS: dict[str, Callable[[argparse.Namespace, OnStep | None], Any]] = {
    "inspect": _inspect,
    "merge": _merge,
    "verify": _verify,
    "extract": _extract,
    "convert": _convert,
    "resize": _resize,
    "combine": _combine,
    "run": _run,
    "import": _import,
    "leftovers": _leftovers,
    "demo": _demo,
}
