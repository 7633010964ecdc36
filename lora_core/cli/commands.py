"""The sub-commands of `lora-core`: for each a parser, and how its arguments become a call."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import OptionError
from ..operations import OPERATIONS, Operation
from ..options import IMPORT, TARGET, TEXT_DIALECT
from ..options.verify import VERIFY_COMMAND
from ..parallel.progress import OnStep
from ..report import Report
from ..stack.rows import check_strength
from ..workflows.importing import import_workflow, lora_names, rows_of_text
from ..workflows.importing.text import MAX_TEXT, TextRows
from ..workflows.run import run
from .demo import demo
from .flags import Flags, Parser, add_loras
from .leftovers import LeftoversReport, leftovers
from .standardinput import StandardInput, refuse_output

_BLOCKS = "blocks="
_OF_COMMANDS = ("command", "json", "quiet")  # what is parsed for the command line itself
_LORA_FLAGS = {"loras": "--lora", "stack": "--stack"}  # arguments that hold LoRAs with their strengths


def make_parser() -> argparse.ArgumentParser:
    parser = Parser("lora-core", description="Inspect, merge, extract and convert LoRA files.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for operation in OPERATIONS.values():
        _add_operation(commands, operation)
    for add in (_add_run, _add_import, _add_leftovers, _add_demo):
        add(commands)
    return parser


def _add_operation(commands: Any, operation: Operation) -> None:
    text = operation.help or operation.declared.description
    flags = Flags(_command(commands, operation.name, text, partial(_operate, operation)), operation.declared)
    if arrange := _ARRANGED.get(operation.name):
        arrange(flags)
    flags.add_rest()


def _operate(operation: Operation, options: argparse.Namespace, on_step: OnStep | None) -> list[Report]:
    arguments = {name: value for name, value in vars(options).items() if name not in _OF_COMMANDS}
    for name, flag in _LORA_FLAGS.items():
        if name in arguments:
            arguments[name] = [_lora(values, flag) for values in arguments[name]]
    refuse_output([arguments.get("out")])
    with StandardInput() as standard_input:
        given = {name: standard_input.in_place_of(value) for name, value in arguments.items()}
        return [operation.function(**given, on_step=on_step)]


def _arrange_inspect(flags: Flags) -> None:
    flags.leave_out("lora_name", "against", "lora_stack")  # a command takes several models, and strengths of the first
    command = flags.command
    command.add_argument("file", metavar="FILE", type=Path)
    command.add_argument(
        "--against", metavar="CHECKPOINT", type=Path, nargs="+", action="extend", default=[],
        help="the model and text encoders to match the LoRA with",
    )  # fmt: skip
    text = "another LoRA with its strengths, to tell where they reinforce or cancel each other; repeat for more"
    add_loras(command, text, flag="--stack", argument="stack")
    command.add_argument(
        "--spectra", action="store_true", help="read and measure every layer: sizes, singular values, effective ranks"
    )


def _arrange_merge(flags: Flags) -> None:
    flags.leave_out("pair")  # a command names the files of a pair themselves


def _arrange_verify(flags: Flags) -> None:
    flags.leave_out("search")  # as often as it is given
    command, search = flags.command, VERIFY_COMMAND.option("search")
    command.add_argument("file", metavar="FILE", type=Path)
    flags.add("base", required=False)
    text = "a LoRA that was merged in, under any name; with strengths they must be those of the receipt; repeat"
    add_loras(command, text)
    command.add_argument("--search", metavar="DIR", type=Path, action="append", default=[], help=search.help)


def _arrange_extract(flags: Flags) -> None:
    flags.add("base", required=True)
    tuned = flags.command.add_mutually_exclusive_group(required=True)
    flags.add("tuned", to=tuned)
    instead = "instead: a LoRA of any kind, with its strengths, made one LoRA; repeat for a stack"
    flags.add("lora_stack", to=tuned, required=False, help=instead)
    flags.add("filename_prefix", required=False)
    _add_ranks(flags)
    flags.add("kind", "clamp")


def _arrange_convert(flags: Flags) -> None:
    flags.add("lora_name", "filename_prefix")
    flags.add("dialect", required=True)
    flags.command.add_argument("--arch", metavar="ARCH", default="", help="the model's id, if the file does not tell")
    flags.add("base")


def _arrange_resize(flags: Flags) -> None:
    flags.add("lora_name", "filename_prefix")
    _add_ranks(flags)


def _arrange_combine(flags: Flags) -> None:
    flags.add("lora_stack", "filename_prefix")
    flags.add_rest(until="base")
    flags.command.add_argument("--arch", metavar="ARCH", default="", help="the model's id, if the files do not tell")


def _add_ranks(flags: Flags) -> None:
    """Add what decides ranks, of which one has to be given, and what goes with it."""
    choice = flags.command.add_mutually_exclusive_group(required=True)
    flags.add("rank", "energy", "rank_by", to=choice)
    flags.add("threshold", "max_rank", "conv_rank")


_ARRANGED: dict[str, Callable[[Flags], None]] = {  # the others have their flags as they are declared
    "inspect": _arrange_inspect, "merge": _arrange_merge, "verify": _arrange_verify, "extract": _arrange_extract,
    "convert": _arrange_convert, "resize": _arrange_resize, "combine": _arrange_combine,
}  # fmt: skip


def _add_run(commands: Any) -> None:
    command = _command(commands, "run", "run a workflow file's LoRA Core nodes without ComfyUI", _run)
    command.add_argument("workflow", metavar="WORKFLOW.json", type=Path, help="in either format; - is standard input")
    command.add_argument("--models", metavar="DIR", type=Path, default=Path("models"), help="ComfyUI's models folder")
    command.add_argument("--output", metavar="DIR", type=Path, help="where results go; default: as the nodes do")


def _run(options: argparse.Namespace, on_step: OnStep | None) -> list[Report]:
    with StandardInput() as standard_input:
        workflow = standard_input.in_place_of(options.workflow)
        return run(workflow, models=options.models, output=options.output, on_step=on_step)


def _add_import(commands: Any) -> None:
    command = _command(commands, IMPORT.name, IMPORT.description, _import)
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "file", metavar="FILE", type=Path, nargs="?", help="a workflow, in either format; - is standard input"
    )
    what.add_argument(
        "--text", metavar="TEXT", help="instead: <lora:...> text, - for standard input; its rows are printed"
    )
    command.add_argument("--out", metavar="FILE", type=Path, help="the workflow file to write")
    command.add_argument("--overwrite", action="store_true", help="replace the output if it exists")
    Flags(command, IMPORT).add_rest()
    command.add_argument("--models", metavar="DIR", type=Path, help="ComfyUI's models folder, to complete short names")


def _import(options: argparse.Namespace, on_step: OnStep | None) -> list[Report] | list[TextRows]:
    if options.text is not None:
        if options.out is not None:
            raise OptionError("--text prints rows; --out is for a workflow file.")
        dialect = getattr(options, "dialect", TEXT_DIALECT.default)
        text = sys.stdin.read(MAX_TEXT + 1) if options.text == "-" else options.text
        rows = rows_of_text(text, dialect, names=lora_names(options.models))
        sys.stderr.writelines(f"{note}\n" for note in rows.notes)  # visible as they are
        return [rows]
    if options.out is None:
        raise OptionError("--out: say which file to write.")
    to = getattr(options, "to", TARGET.default)
    refuse_output([options.out])
    with StandardInput() as standard_input:
        file = standard_input.in_place_of(options.file)
        return [import_workflow(file, options.out, models=options.models, to=to, overwrite=options.overwrite)]


def _add_leftovers(commands: Any) -> None:
    command = _command(commands, "leftovers", "list what killed runs left in a folder, or remove it", _leftovers)
    command.add_argument("folder", metavar="DIR", type=Path)
    command.add_argument("--remove", action="store_true", help="remove it; what a running process writes stays")


def _leftovers(options: argparse.Namespace, on_step: OnStep | None) -> list[LeftoversReport]:
    return [leftovers(options.folder, remove=options.remove)]


def _add_demo(commands: Any) -> None:
    command = _command(commands, "demo", "make a tiny model and LoRAs, then inspect, merge and extract", _demo)
    command.add_argument("folder", metavar="DIR", type=Path, nargs="?", default=Path("lora-core-demo"))


def _demo(options: argparse.Namespace, on_step: OnStep | None) -> list[Report]:
    return demo(options.folder)


def _command(commands: Any, name: str, text: str, call: Callable[..., Any]) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text)
    command.add_argument("--json", action="store_true", help="print the report as JSON on standard output")
    command.add_argument("--quiet", action="store_true", help="show no progress")
    command.set_defaults(command=call)
    return command


def _lora(values: Sequence[str], flag: str) -> str | tuple[Any, ...]:
    """Return a LoRA as operations take it: verify asks for no strength where none is given."""
    name, *rest = values
    if not rest:
        return name
    blocks = rest.pop().removeprefix(_BLOCKS) if rest[-1].startswith(_BLOCKS) else ""
    if len(rest) > 2:
        raise OptionError(f"{flag}: expected FILE [STRENGTH [CLIP_STRENGTH]] [blocks=TEXT], found {' '.join(values)}.")
    strengths = [check_strength(value, f"{flag} {name}") for value in rest]
    model = strengths[0] if strengths else 1.0
    return name, model, strengths[1] if len(strengths) > 1 else model, blocks
