"""Flags that several commands have, made from the declared options."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ..errors import OptionError
from ..options import Command, Node, Option
from ..text import visible


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        super().error(visible(message))  # arguments may be names of files


def add_loras(command: Any, text: str, *, flag: str = "--lora", required: bool = False) -> None:
    names = ("FILE", "STRENGTH")
    command.add_argument(flag, metavar=names, nargs="+", action="append", required=required, default=[], help=text)


def add_base(command: argparse.ArgumentParser, node: Node | Command, *, required: bool = False) -> None:
    command.add_argument("--base", metavar="CHECKPOINT", type=Path, required=required, help=node.option("base").help)


def add_output(command: argparse.ArgumentParser, *, required: bool = True) -> None:
    command.add_argument(
        "--out", metavar="FILE", type=Path, required=required,
        help="the .safetensors file to write; a folder if a LoRA is merged into a folder",
    )  # fmt: skip
    command.add_argument("--overwrite", action="store_true", help="replace the output if it exists")


def add_options(command: Any, node: Node | Command, names: Sequence[str], *, required: bool = False) -> None:
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
