"""The sub-commands of `lora-core`: for each a parser, its flags made from the declared options."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from .commandcalls import CALLS
from .errors import OptionError
from .options import COMBINE, CONVERT, EXTRACT, IMPORT, MERGE, RESIZE, VERIFY_COMMAND, Command, Node, Option
from .visible import visible

_LORA_HELP = (
    "a LoRA with its strength and, if it differs, its strength on the text encoder; then blocks=TEXT for strengths of "
    "blocks, e.g. blocks=double.0-9=0.5,te=0; repeat for a stack"
)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        super().error(visible(message))  # arguments may be names of files


def make_parser() -> argparse.ArgumentParser:
    parser = _Parser("lora-core", description="Inspect, merge, extract and convert LoRA files.")
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
    _add_loras(command, text, flag="--stack")
    command.add_argument(
        "--spectra", action="store_true", help="read and measure every layer: sizes, singular values, effective ranks"
    )


def _add_merge(commands: Any) -> None:
    command = _command(commands, "merge", MERGE.description)
    command.add_argument("--base", metavar="CHECKPOINT", type=Path, required=True, help=MERGE.option("checkpoint").help)
    _add_loras(command, _LORA_HELP, required=True)
    _add_output(command)
    _add_options(command, MERGE, ("dtype", "semantics", "on_unmatched", "verify"))


def _add_verify(commands: Any) -> None:
    command = _command(commands, VERIFY_COMMAND.name, VERIFY_COMMAND.description)
    command.add_argument("file", metavar="FILE", type=Path)
    _add_base(command, VERIFY_COMMAND)
    _add_loras(
        command, "a LoRA that was merged in, under any name; with strengths they must be those of the receipt; repeat"
    )
    command.add_argument(
        "--search", metavar="DIR", type=Path, action="append", default=[], help=VERIFY_COMMAND.option("search").help
    )


def _add_extract(commands: Any) -> None:
    command = _command(commands, "extract", EXTRACT.description)
    _add_base(command, EXTRACT, required=True)
    tuned = command.add_mutually_exclusive_group(required=True)
    tuned.add_argument("--tuned", metavar="CHECKPOINT", type=Path, help=EXTRACT.option("tuned").help)
    _add_loras(tuned, "instead: a LoRA of any kind, with its strengths, made one LoRA; repeat for a stack")
    _add_output(command, required=False)
    choice = command.add_mutually_exclusive_group(required=True)
    _add_options(choice, EXTRACT, ("rank", "energy", "rank_by"))
    _add_options(command, EXTRACT, ("threshold", "max_rank", "conv_rank", "kind", "clamp", "dialect", "dtype"))
    _add_options(command, EXTRACT, ("estimate_only",))


def _add_convert(commands: Any) -> None:
    command = _command(commands, "convert", CONVERT.description)
    command.add_argument("file", metavar="FILE", type=Path)
    _add_output(command)
    _add_options(command, CONVERT, ("dialect",), required=True)
    command.add_argument("--arch", metavar="ARCH", default="", help="the model's id, if the file does not tell")
    _add_base(command, CONVERT)
    _add_options(command, CONVERT, ("kind", "rank", "dtype", "on_unmatched"))


def _add_resize(commands: Any) -> None:
    command = _command(commands, "resize", RESIZE.description)
    command.add_argument("file", metavar="FILE", type=Path)
    _add_output(command)
    choice = command.add_mutually_exclusive_group(required=True)
    _add_options(choice, RESIZE, ("rank", "energy", "rank_by"))
    _add_options(command, RESIZE, ("threshold", "max_rank", "conv_rank", "dtype"))
    _add_base(command, RESIZE)


def _add_combine(commands: Any) -> None:
    command = _command(commands, "combine", COMBINE.description)
    _add_loras(command, _LORA_HELP, required=True)
    _add_output(command)
    _add_options(command, COMBINE, ("method", "rank", "energy", "max_rank", "rank_by", "threshold"))
    _add_options(command, COMBINE, ("density", "sign", "seed", "dialect", "dtype"))
    command.add_argument("--arch", metavar="ARCH", default="", help="the model's id, if the files do not tell")
    _add_base(command, COMBINE)
    _add_options(command, COMBINE, ("on_unmatched",))


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
    _add_options(command, IMPORT, ("to", "dialect"))
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


def _add_loras(command: Any, text: str, *, flag: str = "--lora", required: bool = False) -> None:
    names = ("FILE", "STRENGTH")
    command.add_argument(flag, metavar=names, nargs="+", action="append", required=required, default=[], help=text)


def _add_base(command: argparse.ArgumentParser, node: Node | Command, *, required: bool = False) -> None:
    command.add_argument("--base", metavar="CHECKPOINT", type=Path, required=required, help=node.option("base").help)


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
