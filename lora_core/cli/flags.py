"""The flags of a command, made from what is declared of its inputs; each fills the argument that its input fills."""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from ..errors import OptionError
from ..options import Command, Node, Option, Socket
from ..text import message_line, short_repr

_LORA_HELP = (
    "a LoRA with its strength and, if it differs, its strength on the text encoder; then blocks=TEXT for strengths of "
    "blocks, e.g. blocks=double.0-9=0.5,te=0; repeat for a stack"
)
_IN_MEMORY = ("MODEL", "LORA_MODEL")  # inputs that only a wire can give


# What Python reads as a negative number: argparse knows fewer spellings, and takes the others for unknown flags
_NEGATIVE = re.compile(r"-(?:(?:\d[\d_]*(?:\.[\d_]*)?|\.\d[\d_]*)(?:e[-+]?\d+)?|inf(?:inity)?|nan)\Z", re.IGNORECASE)


class Parser(argparse.ArgumentParser):
    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._negative_number_matcher = _NEGATIVE

    def error(self, message: str) -> NoReturn:
        super().error(message_line(message))  # arguments may be names of files


class Flags:
    """Adds a flag for each input of a node or command: some as a command wants them, then the rest as declared."""

    def __init__(self, command: argparse.ArgumentParser, declared: Node | Command) -> None:
        self.command = command
        self._left = {item.name: item for item in declared.inputs if item.type not in _IN_MEMORY}

    def add(self, *names: str, to: Any = None, required: bool | None = None, help: str = "") -> None:
        """Add the flags of some inputs to the command, or to a group of it."""
        for name in names:
            item = self._left.pop(name)
            _ADD.get(item.type, _add_option)(to or self.command, item, required, help)

    def leave_out(self, *names: str) -> None:
        """Take inputs from the rest: the command has other flags for them, or none."""
        for name in names:
            del self._left[name]

    def add_rest(self, until: str = "") -> None:
        """Add the flags of all inputs that have none yet, in the order of their declaration, up to one of them."""
        self.add(*itertools.takewhile(lambda name: name != until, self._left))


def add_loras(
    command: Any, text: str, *, flag: str = "--lora", argument: str = "loras", required: bool = False
) -> None:
    names = ("FILE", "STRENGTH")
    command.add_argument(
        flag, dest=argument, metavar=names, nargs="+", action="append", required=required, default=[], help=text
    )


def _add_file(command: Any, item: Option, required: bool | None, help: str) -> None:
    command.add_argument(item.fills, metavar="FILE", type=Path)


def _add_checkpoint(command: Any, item: Option, required: bool | None, help: str) -> None:
    required = item.default is None if required is None else required
    help = help or item.help
    command.add_argument(f"--{item.fills}", metavar="CHECKPOINT", type=Path, required=required, help=help)


def _add_stack(command: Any, item: Socket, required: bool | None, help: str) -> None:
    add_loras(command, help or _LORA_HELP, argument=item.fills, required=required is not False)


def _add_output(command: Any, item: Option, required: bool | None, help: str) -> None:
    command.add_argument(
        f"--{item.fills}", metavar="FILE", type=Path, required=required is not False,
        help="the .safetensors file to write; a folder if a LoRA is merged into a folder",
    )  # fmt: skip
    command.add_argument("--overwrite", action="store_true", help="replace the output if it exists")


def _add_option(command: Any, option: Option, required: bool | None, help: str) -> None:
    """Add a flag; one that is not given is left to the function's own default."""
    flag = "--" + option.name.replace("_", "-")
    if option.type == "BOOLEAN":
        command.add_argument(flag, action="store_true", default=argparse.SUPPRESS, help=option.help)
    else:
        command.add_argument(
            flag,
            type=_converter(option),
            choices=option.choices or None,
            metavar=None if option.choices else option.name.upper(),
            default=argparse.SUPPRESS,
            help=option.help if required else f"{option.help} Default: {option.default}.",
            required=bool(required),
        )


_ADD: dict[str, Callable[[Any, Any, bool | None, str], None]] = {
    "LORA_FILE": _add_file, "MODEL_FILE": _add_checkpoint, "LORA_STACK": _add_stack, "NEW_FILE": _add_output,
}  # fmt: skip


def _converter(option: Option) -> Callable[[str], Any]:
    convert = {"INT": int, "FLOAT": float}.get(option.type, str)

    def parse(text: str) -> Any:
        try:
            value = convert(text)
        except ValueError as error:
            expected = "a whole number" if option.type == "INT" else "a number"
            raise argparse.ArgumentTypeError(f"expected {expected}; found {short_repr(text)}.") from error
        try:
            option.check(value)
        except OptionError as error:
            raise argparse.ArgumentTypeError(str(error)) from error
        return value

    return parse
