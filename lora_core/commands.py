"""The sub-commands of `lora-core`: for each a parser, its flags made from the declared options, and what it calls."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

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
from .options import COMBINE, CONVERT, EXTRACT, IMPORT, MERGE, RESIZE, VERIFY_COMMAND, Command, Node, Option
from .report import Report
from .resize import resize
from .stack import check_strength
from .verify import verify
from .visible import visible
from .workflow import run

_BLOCKS = "blocks="
_LORA_HELP = (
    "a LoRA with its strength and, if it differs, its strength on the text encoder; then blocks=TEXT for strengths of "
    "blocks, e.g. blocks=double.0-9=0.5,te=0; repeat for a stack"
)
_RANK_OPTIONS = ("rank", "energy", "max_rank", "rank_by", "threshold")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        super().error(visible(message))  # arguments may be names of files


def make_parser() -> argparse.ArgumentParser:
    parser = _Parser("lora-core", description="Inspect, merge, extract and convert LoRA files.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = _command(commands, "inspect", _inspect, "say what a LoRA or a checkpoint is, and whether they fit")
    command.add_argument("file", metavar="FILE", type=Path)
    command.add_argument(
        "--against", metavar="CHECKPOINT", type=Path, nargs="+", action="extend", default=[],
        help="the model and text encoders to match the LoRA with",
    )  # fmt: skip
    command.add_argument(
        "--stack", metavar=("FILE", "STRENGTH"), nargs="+", action="append", default=[],
        help="another LoRA with its strengths, to tell where they reinforce or cancel each other; repeat for more",
    )  # fmt: skip
    command.add_argument(
        "--spectra", action="store_true", help="read and measure every layer: sizes, singular values, effective ranks"
    )

    command = _command(commands, "merge", _merge, MERGE.description)
    command.add_argument("--base", metavar="CHECKPOINT", type=Path, required=True, help=MERGE.option("checkpoint").help)
    command.add_argument(
        "--lora", metavar=("FILE", "STRENGTH"), nargs="+", action="append", required=True,
        help=_LORA_HELP,
    )  # fmt: skip
    _add_output(command)
    _add_options(command, MERGE, ("dtype", "semantics", "on_unmatched", "verify"))

    _add_verify(commands)
    command = _command(commands, "extract", _extract, EXTRACT.description)
    command.add_argument("--base", metavar="CHECKPOINT", type=Path, required=True, help=EXTRACT.option("base").help)
    tuned = command.add_mutually_exclusive_group(required=True)
    tuned.add_argument("--tuned", metavar="CHECKPOINT", type=Path, help=EXTRACT.option("tuned").help)
    tuned.add_argument(
        "--lora", metavar=("FILE", "STRENGTH"), nargs="+", action="append", default=[],
        help="instead: a LoRA of any kind, with its strengths, made one LoRA; repeat for a stack",
    )  # fmt: skip
    _add_output(command, required=False)
    choice = command.add_mutually_exclusive_group(required=True)
    _add_options(choice, EXTRACT, ("rank", "energy", "rank_by"))
    _add_options(command, EXTRACT, ("threshold", "max_rank", "conv_rank", "kind", "clamp", "dialect", "dtype"))
    _add_options(command, EXTRACT, ("estimate_only",))

    command = _command(commands, "convert", _convert, CONVERT.description)
    command.add_argument("file", metavar="FILE", type=Path)
    _add_output(command)
    _add_options(command, CONVERT, ("dialect",), required=True)
    command.add_argument("--arch", metavar="ARCH", default="", help="the model's id, if the file does not tell")
    command.add_argument("--base", metavar="CHECKPOINT", type=Path, help=CONVERT.option("base").help)
    _add_options(command, CONVERT, ("kind", "rank", "dtype", "on_unmatched"))

    command = _command(commands, "resize", _resize, RESIZE.description)
    command.add_argument("file", metavar="FILE", type=Path)
    _add_output(command)
    choice = command.add_mutually_exclusive_group(required=True)
    _add_options(choice, RESIZE, ("rank", "energy", "rank_by"))
    _add_options(command, RESIZE, ("threshold", "max_rank", "conv_rank", "dtype"))
    command.add_argument("--base", metavar="CHECKPOINT", type=Path, help=RESIZE.option("base").help)

    command = _command(commands, "combine", _combine, COMBINE.description)
    command.add_argument(
        "--lora", metavar=("FILE", "STRENGTH"), nargs="+", action="append", required=True,
        help=_LORA_HELP,
    )  # fmt: skip
    _add_output(command)
    _add_options(command, COMBINE, ("method", *_RANK_OPTIONS, "density", "sign", "seed", "dialect", "dtype"))
    command.add_argument("--arch", metavar="ARCH", default="", help="the model's id, if the files do not tell")
    command.add_argument("--base", metavar="CHECKPOINT", type=Path, help=COMBINE.option("base").help)
    _add_options(command, COMBINE, ("on_unmatched",))

    _add_run(commands)
    _add_import(commands)
    _add_leftovers(commands)

    _add_demo(commands)
    return parser


def _add_demo(commands: Any) -> None:
    command = _command(commands, "demo", _demo, "make a tiny model and LoRAs, then inspect, merge and extract")
    command.add_argument("folder", metavar="DIR", type=Path, nargs="?", default=Path("lora-core-demo"))


def _add_verify(commands: Any) -> None:
    command = _command(commands, VERIFY_COMMAND.name, _verify, VERIFY_COMMAND.description)
    command.add_argument("file", metavar="FILE", type=Path)
    command.add_argument("--base", metavar="CHECKPOINT", type=Path, help=VERIFY_COMMAND.option("base").help)
    command.add_argument(
        "--lora", metavar=("FILE", "STRENGTH"), nargs="+", action="append", default=[],
        help="a LoRA that was merged in, under any name; with strengths they must be those of the receipt; repeat",
    )  # fmt: skip
    command.add_argument(
        "--search", metavar="DIR", type=Path, action="append", default=[], help=VERIFY_COMMAND.option("search").help
    )


def _add_run(commands: Any) -> None:
    command = _command(commands, "run", _run, "run a workflow file's LoRA Core nodes without ComfyUI")
    command.add_argument("workflow", metavar="WORKFLOW.json", type=Path)
    command.add_argument("--models", metavar="DIR", type=Path, default=Path("models"), help="ComfyUI's models folder")
    command.add_argument("--output", metavar="DIR", type=Path, help="where results go; default: as the nodes do")


def _add_import(commands: Any) -> None:
    command = _command(commands, IMPORT.name, _import, IMPORT.description)
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("file", metavar="FILE", type=Path, nargs="?", help="a workflow file, in either format")
    what.add_argument("--text", metavar="TEXT", help="instead: <lora:...> text; its rows are printed")
    command.add_argument("--out", metavar="FILE", type=Path, help="the workflow file to write")
    command.add_argument("--overwrite", action="store_true", help="replace the output if it exists")
    _add_options(command, IMPORT, ("to", "dialect"))
    command.add_argument("--models", metavar="DIR", type=Path, help="ComfyUI's models folder, to complete short names")


def _add_leftovers(commands: Any) -> None:
    command = _command(commands, "leftovers", _leftovers, "list what killed runs left in a folder, or remove it")
    command.add_argument("folder", metavar="DIR", type=Path)
    command.add_argument("--remove", action="store_true", help="remove it; what a running process writes stays")


def _command(commands: Any, name: str, function: Callable[..., list[Any]], text: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text)
    command.add_argument("--json", action="store_true", help="print the report as JSON on standard output")
    command.add_argument("--quiet", action="store_true", help="show no progress")
    command.set_defaults(command=function)
    return command


def _add_output(command: argparse.ArgumentParser, *, required: bool = True) -> None:
    command.add_argument(
        "--out", metavar="FILE", type=Path, required=required,
        help="the .safetensors file to write; a folder if a LoRA is merged into a folder",
    )  # fmt: skip
    command.add_argument("--overwrite", action="store_true", help="replace the output if it exists")


def _add_options(command: Any, node: Node | Command, names: Sequence[str], *, required: bool = False) -> None:
    """Add a flag for each option; one that is not given is left to the function's own default."""
    for name in names:
        option = node.option(name)
        flag = "--" + name.replace("_", "-")
        if option.type == "BOOLEAN":
            command.add_argument(flag, action="store_true", default=argparse.SUPPRESS, help=option.help)
        else:
            command.add_argument(
                flag,
                type=_converter(option),
                choices=option.choices or None,
                metavar=None if option.choices else name.upper(),
                default=argparse.SUPPRESS,
                help=option.help if required else f"{option.help} Default: {option.default}.",
                required=required,
            )


def _converter(option: Option) -> Callable[[str], Any]:
    convert = {"INT": int, "FLOAT": float}.get(option.type, str)

    def parse(text: str) -> Any:
        try:
            value = convert(text)
            option.check(value)
        except (ValueError, OptionError) as error:
            raise argparse.ArgumentTypeError(str(error)) from error
        return value

    return parse


def _given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    return {name: getattr(options, name) for name in names if hasattr(options, name)}


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


def _lora(values: Sequence[str], flag: str = "--lora") -> tuple[Any, ...]:
    name, *rest = values
    blocks = rest.pop().removeprefix(_BLOCKS) if rest and rest[-1].startswith(_BLOCKS) else ""
    if len(rest) > 2:
        raise OptionError(f"{flag}: expected FILE [STRENGTH [CLIP_STRENGTH]] [blocks=TEXT], found {' '.join(values)}.")
    strengths = [check_strength(value, f"{flag} {name}") for value in rest]
    model = strengths[0] if strengths else 1.0
    return name, model, strengths[1] if len(strengths) > 1 else model, blocks


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
