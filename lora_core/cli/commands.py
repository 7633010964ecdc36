"""The sub-commands of `lora-core`: for each a parser, its flags made from the declared options."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import OptionError
from ..operations.combining.combine import combine
from ..operations.converting.convert import convert
from ..operations.extracting.extract import extract
from ..operations.inspecting.inspect import inspect
from ..operations.merging.merge import merge
from ..operations.merging.verify import verify
from ..operations.resizing.resize import resize
from ..options import COMBINE, CONVERT, EXTRACT, IMPORT, MERGE, RESIZE, VERIFY_COMMAND
from ..parallel.progress import OnStep
from ..report import Report
from ..stack.rows import check_strength
from ..workflows.importing import import_workflow, lora_names, rows_of_text
from ..workflows.importing.text import TextRows
from ..workflows.run import run
from .demo import demo
from .flags import Parser, add_base, add_loras, add_options, add_output
from .leftovers import LeftoversReport, leftovers

_LORA_HELP = (
    "a LoRA with its strength and, if it differs, its strength on the text encoder; then blocks=TEXT for strengths of "
    "blocks, e.g. blocks=double.0-9=0.5,te=0; repeat for a stack"
)

_BLOCKS = "blocks="
_RANK_OPTIONS = ("rank", "energy", "max_rank", "rank_by", "threshold")


def make_parser() -> argparse.ArgumentParser:
    parser = Parser("lora-core", description="Inspect, merge, extract and convert LoRA files.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (
        _add_inspect, _add_merge, _add_verify, _add_extract, _add_convert, _add_resize, _add_combine, _add_run,
        _add_import, _add_leftovers, _add_demo,
    ):  # fmt: skip
        add(commands)
    return parser


def _add_inspect(commands: Any) -> None:
    command = _command(commands, "inspect", "say what a LoRA or a checkpoint is, and whether they fit")
    command.add_argument("file", metavar="FILE", type=Path)
    command.add_argument(
        "--against", metavar="CHECKPOINT", type=Path, nargs="+", action="extend", default=[],
        help="the model and text encoders to match the LoRA with",
    )  # fmt: skip
    text = "another LoRA with its strengths, to tell where they reinforce or cancel each other; repeat for more"
    add_loras(command, text, flag="--stack")
    command.add_argument(
        "--spectra", action="store_true", help="read and measure every layer: sizes, singular values, effective ranks"
    )


def _add_merge(commands: Any) -> None:
    command = _command(commands, "merge", MERGE.description)
    command.add_argument("--base", metavar="CHECKPOINT", type=Path, required=True, help=MERGE.option("checkpoint").help)
    add_loras(command, _LORA_HELP, required=True)
    add_output(command)
    add_options(command, MERGE, ("dtype", "semantics", "on_unmatched", "verify"))


def _add_verify(commands: Any) -> None:
    command = _command(commands, VERIFY_COMMAND.name, VERIFY_COMMAND.description)
    command.add_argument("file", metavar="FILE", type=Path)
    add_base(command, VERIFY_COMMAND)
    add_loras(
        command, "a LoRA that was merged in, under any name; with strengths they must be those of the receipt; repeat"
    )
    command.add_argument(
        "--search", metavar="DIR", type=Path, action="append", default=[], help=VERIFY_COMMAND.option("search").help
    )


def _add_extract(commands: Any) -> None:
    command = _command(commands, "extract", EXTRACT.description)
    add_base(command, EXTRACT, required=True)
    tuned = command.add_mutually_exclusive_group(required=True)
    tuned.add_argument("--tuned", metavar="CHECKPOINT", type=Path, help=EXTRACT.option("tuned").help)
    add_loras(tuned, "instead: a LoRA of any kind, with its strengths, made one LoRA; repeat for a stack")
    add_output(command, required=False)
    choice = command.add_mutually_exclusive_group(required=True)
    add_options(choice, EXTRACT, ("rank", "energy", "rank_by"))
    add_options(command, EXTRACT, ("threshold", "max_rank", "conv_rank", "kind", "clamp", "dialect", "dtype"))
    add_options(command, EXTRACT, ("estimate_only",))


def _add_convert(commands: Any) -> None:
    command = _command(commands, "convert", CONVERT.description)
    command.add_argument("file", metavar="FILE", type=Path)
    add_output(command)
    add_options(command, CONVERT, ("dialect",), required=True)
    command.add_argument("--arch", metavar="ARCH", default="", help="the model's id, if the file does not tell")
    add_base(command, CONVERT)
    add_options(command, CONVERT, ("kind", "rank", "dtype", "on_unmatched"))


def _add_resize(commands: Any) -> None:
    command = _command(commands, "resize", RESIZE.description)
    command.add_argument("file", metavar="FILE", type=Path)
    add_output(command)
    choice = command.add_mutually_exclusive_group(required=True)
    add_options(choice, RESIZE, ("rank", "energy", "rank_by"))
    add_options(command, RESIZE, ("threshold", "max_rank", "conv_rank", "dtype"))
    add_base(command, RESIZE)


def _add_combine(commands: Any) -> None:
    command = _command(commands, "combine", COMBINE.description)
    add_loras(command, _LORA_HELP, required=True)
    add_output(command)
    add_options(command, COMBINE, ("method", "rank", "energy", "max_rank", "rank_by", "threshold"))
    add_options(command, COMBINE, ("density", "sign", "seed", "dialect", "dtype"))
    command.add_argument("--arch", metavar="ARCH", default="", help="the model's id, if the files do not tell")
    add_base(command, COMBINE)
    add_options(command, COMBINE, ("on_unmatched",))


def _add_run(commands: Any) -> None:
    command = _command(commands, "run", "run a workflow file's LoRA Core nodes without ComfyUI")
    command.add_argument("workflow", metavar="WORKFLOW.json", type=Path)
    command.add_argument("--models", metavar="DIR", type=Path, default=Path("models"), help="ComfyUI's models folder")
    command.add_argument("--output", metavar="DIR", type=Path, help="where results go; default: as the nodes do")


def _add_import(commands: Any) -> None:
    command = _command(commands, IMPORT.name, IMPORT.description)
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("file", metavar="FILE", type=Path, nargs="?", help="a workflow file, in either format")
    what.add_argument("--text", metavar="TEXT", help="instead: <lora:...> text; its rows are printed")
    command.add_argument("--out", metavar="FILE", type=Path, help="the workflow file to write")
    command.add_argument("--overwrite", action="store_true", help="replace the output if it exists")
    add_options(command, IMPORT, ("to", "dialect"))
    command.add_argument("--models", metavar="DIR", type=Path, help="ComfyUI's models folder, to complete short names")


def _add_leftovers(commands: Any) -> None:
    command = _command(commands, "leftovers", "list what killed runs left in a folder, or remove it")
    command.add_argument("folder", metavar="DIR", type=Path)
    command.add_argument("--remove", action="store_true", help="remove it; what a running process writes stays")


def _add_demo(commands: Any) -> None:
    command = _command(commands, "demo", "make a tiny model and LoRAs, then inspect, merge and extract")
    command.add_argument("folder", metavar="DIR", type=Path, nargs="?", default=Path("lora-core-demo"))


def _command(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text)
    command.add_argument("--json", action="store_true", help="print the report as JSON on standard output")
    command.add_argument("--quiet", action="store_true", help="show no progress")
    command.set_defaults(command=CALLS[name])
    return command


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
