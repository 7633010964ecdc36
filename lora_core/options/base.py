"""What an option, a wire and a node are: the words in which every node's inputs are declared."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import OptionError
from ..text import short_repr

OptionType = Literal["FLOAT", "INT", "BOOLEAN", "COMBO", "STRING", "LORA_FILE", "MODEL_FILE", "NEW_FILE", "ROWS"]
SocketType = Literal["MODEL", "CLIP", "LORA_STACK", "LORA_MODEL", "STRING", "FLOAT", "IMAGE"]


@dataclass(frozen=True, slots=True)
class Option:
    """One value that a user sets: a widget of a node, a flag of a command, a keyword of a library function."""

    name: str
    type: OptionType
    help: str
    default: Any = None
    low: float | None = None
    high: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()
    advanced: bool = False
    optional: bool = False  # prompts without it run: those saved before it was added
    argument: str = ""  # of the operation, where it has another name
    beside: str = ""  # of a new file: the input whose file gives the folder; a LoRA goes to the LoRAs

    @property
    def fills(self) -> str:
        """The argument of the operation that the value becomes."""
        return self.argument or self.name

    def check(self, value: Any) -> None:
        """Raise OptionError if `value` is not allowed here."""
        if self.choices and value not in self.choices:
            raise OptionError(f"{self.name}: expected one of {', '.join(self.choices)}; found {short_repr(value)}.")
        if self.type in ("INT", "FLOAT"):
            whole = self.type == "INT"
            if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
                raise OptionError(
                    f"{self.name}: expected {'a whole number' if whole else 'a number'}; found {short_repr(value)}."
                )
            if not (self.low or 0) <= value <= (self.high if self.high is not None else math.inf):  # NaN fails too
                raise OptionError(f"{self.name}: expected {self.low:g} to {self.high:g}; found {short_repr(value)}.")


@dataclass(frozen=True, slots=True)
class Socket:
    """One wire into or out of a node."""

    name: str
    type: SocketType
    help: str
    optional: bool = False
    argument: str = ""  # of the operation, where it has another name

    @property
    def fills(self) -> str:
        """The argument of the operation that the value becomes."""
        return self.argument or self.name


@dataclass(frozen=True, slots=True)
class Node:
    """What ComfyUI and the headless runner need to know of a node."""

    id: str
    display_name: str
    description: str
    inputs: tuple[Option | Socket, ...]
    outputs: tuple[Socket, ...]
    is_output: bool = False
    search_aliases: tuple[str, ...] = ()

    @property
    def options(self) -> tuple[Option, ...]:
        return tuple(i for i in self.inputs if isinstance(i, Option))

    def option(self, name: str) -> Option:
        return next(o for o in self.options if o.name == name)


@dataclass(frozen=True, slots=True)
class Command:
    """What the command line needs to know of a command that no node has."""

    name: str
    description: str
    inputs: tuple[Option, ...]

    def option(self, name: str) -> Option:
        return next(o for o in self.inputs if o.name == name)
