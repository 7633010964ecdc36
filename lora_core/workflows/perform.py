"""Run a node's operation: the values of its inputs become arguments as its declaration says, in ComfyUI and without."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..files.memory import check_in_memory
from ..library.stackfiles import notes_of
from ..library.words import words_of_stack
from ..operations import NODE_OPERATIONS
from ..options import Node, Option, Socket
from ..options.extract import ESTIMATE
from ..options.shared import NO_FILE
from ..report import Report
from ..stack.entry import StackEntry, stack_in_memory
from ..stack.rows import join_stacks, stack_of_one

STACK_ARGUMENT = "loras"  # the argument that all inputs which name it fill together; any other takes one of them
_ENTRIES: dict[str, Callable[[Any], list[StackEntry]]] = {
    "LORA_FILE": lambda name: stack_of_one(name, 1.0, 1.0),
    "LORA_STACK": lambda stack: join_stacks(stack, ()),
    "LORA_MODEL": stack_in_memory,
}


class NodeFiles(Protocol):
    """The files that nodes name: those that ComfyUI lists, or those below a folder like its models."""

    def model(self, name: Any) -> Path: ...

    def lora(self, name: Any) -> Path: ...

    def located(self, entries: Iterable[StackEntry]) -> list[StackEntry]: ...

    def loaded_model(self, model: Any, name: str) -> Any:
        """Return what is wired to the input `name`, a MODEL, as operations take it."""

    def new_path(self, prefix: Any, beside: Any) -> Path:
        """Return where a new file goes: into the folder of the model `beside`, or, for None, to the LoRAs."""
        ...

    def listed_name(self, path: Path, beside: Any) -> str:
        """Return the name of a new file, as loaders list it."""
        ...


@dataclass(frozen=True, slots=True)
class Performed:
    """What a node's operation gives: its report, and the texts that the node puts out; pictures come after these."""

    report: Report
    texts: tuple[str, ...]


def perform(node: Node, inputs: Mapping[str, Any], files: NodeFiles, **more: Any) -> Performed:
    """Run the operation of a node; an input that is not given has its default.

    `more` are the arguments that no input gives, such as `on_step`.
    """
    operation, values = NODE_OPERATIONS[node.id], _values(node, inputs)
    if operation.check is not None:
        operation.check(**values)
    arguments, stack = _arguments(node, values, files)
    out, beside = None, None
    for option in node.options:
        if option.type == "NEW_FILE":  # last, since it makes the folder
            beside = values.get(option.beside)
            out = None if values.get(ESTIMATE.name) else files.new_path(values[option.name], beside)
            arguments[option.fills] = out
    report = (operation.as_node or operation.function)(**arguments, **more)
    report.warnings[:0] = notes_of(stack)

    def text(output: Socket) -> str:
        if output.name == "report":
            return report.text()
        if output.name == "trigger_words":
            return words_of_stack(stack)
        return "" if out is None else files.listed_name(out, beside)

    return Performed(report, tuple(text(output) for output in node.outputs if output.type == "STRING"))


def _values(node: Node, inputs: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for item in node.inputs:
        value = inputs.get(item.name, item.default if isinstance(item, Option) else None)
        values[item.name] = join_stacks(value, ()) if item.type == "LORA_STACK" and value is not None else value
    return values


def _arguments(node: Node, values: Mapping[str, Any], files: NodeFiles) -> tuple[dict[str, Any], list[StackEntry]]:
    """Return what the inputs become, all but a new file, and the LoRAs of the stack among it with their files."""
    filling: dict[str, list[Option | Socket]] = {}
    for item in node.inputs:
        if item.type != "NEW_FILE":
            filling.setdefault(item.fills, []).append(item)
    arguments: dict[str, Any] = {}
    stack: list[StackEntry] = []
    for name, items in filling.items():
        if name == STACK_ARGUMENT:
            stack = files.located(entry for item in items for entry in _ENTRIES[item.type](values[item.name]))
            arguments[name] = [entry.opened_as() for entry in stack]
        else:
            item = next((one for one in items if _is_given(values[one.name])), items[0])
            arguments[name] = _argument(item, values[item.name], files)
    return arguments, stack


def _argument(item: Option | Socket, value: Any, files: NodeFiles) -> Any:
    if item.type == "LORA_FILE":
        return files.lora(value)
    if item.type == "MODEL_FILE":
        return None if value == item.default == NO_FILE else files.model(value)
    if item.type == "MODEL":
        return files.loaded_model(value, item.name)
    return check_in_memory(value) if item.type == "LORA_MODEL" else value


def _is_given(value: Any) -> bool:
    return value is not None and not (isinstance(value, str) and value == NO_FILE)
