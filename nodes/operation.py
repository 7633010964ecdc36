"""The node of an operation in ComfyUI: all as lora_core declares it, on the files that ComfyUI lists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from inspect import Parameter, Signature
from pathlib import Path
from typing import Any, ClassVar

from ..lora_core.operations import NODE_OPERATIONS
from ..lora_core.options import Node, Option
from ..lora_core.options.shared import NO_FILE
from ..lora_core.parallel.asking import asking
from ..lora_core.shortage import tells_shortages
from ..lora_core.workflows.perform import STACK_ARGUMENT, Performed, perform
from . import host, library
from .host import io
from .pictures import PICTURES
from .schema import schema_of, shown
from .validation import looked_at
from .wiredmodel import LoadedModel


class _ListedFiles:
    """The files that nodes name, as ComfyUI lists them."""

    model = staticmethod(host.model_path)
    lora = staticmethod(host.lora_path)
    located = staticmethod(library.found)
    loaded_model = LoadedModel

    def new_path(self, prefix: str, beside: str | None) -> Path:
        return host.new_lora_path(prefix) if beside is None else host.new_model_path(beside, prefix)

    def listed_name(self, path: Path, beside: str | None) -> str:
        return host.listed_name(path, "loras" if beside is None else host.model_folder(beside))


class OperationNode(io.ComfyNode):
    """A node that does an operation. What a node has of its own is a class below; `operation_node` makes the others."""

    DECLARED: ClassVar[Node]
    CHECKED: ClassVar[tuple[str, ...]] = ()  # inputs that `problem` sees besides those that name files

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema_of(cls.DECLARED)

    @classmethod
    def problem(cls, chosen: Mapping[str, Any]) -> bool | str:
        """Return True, or what is wrong with the first name that means no file or can't be one (a link is None)."""
        for option, name in _named_files(cls.DECLARED, chosen):
            if name == option.default == NO_FILE:
                if option.type == "LORA_FILE" and option.fills != STACK_ARGUMENT:
                    operation = NODE_OPERATIONS[cls.DECLARED.id]
                    return f"{option.name}: choose the LoRA to {operation.name}."
            elif (found := host.problem(_PATHS[option.type], (name,))) is not True:
                return found
        return next(
            (found for prefix in _prefixes(cls.DECLARED, chosen) if (found := host.prefix_problem(prefix))), True
        )

    @classmethod
    def fingerprint_inputs(cls, **inputs: Any) -> list[Any]:
        """Return names, sizes and times of the files, so that a node runs again after one was overwritten."""
        named = [(option, name) for option, name in _named_files(cls.DECLARED, inputs) if name != NO_FILE]
        return [mark for option, name in named for mark in host.fingerprint(_PATHS[option.type], (name,))]

    @classmethod
    @tells_shortages
    def execute(cls, **inputs: Any) -> io.NodeOutput:
        last = ["writing"] if any(option.type == "NEW_FILE" for option in cls.DECLARED.options) else []
        return cls.shown(cls.performed(inputs, *last))

    @classmethod
    def performed(cls, inputs: Mapping[str, Any], *last: str, **more: Any) -> Performed:
        """Run the operation; the page is told what it is doing, and `last` once all steps are done."""
        phases = NODE_OPERATIONS[cls.DECLARED.id].doing, *last
        with asking(host.ask_cancelled):
            return perform(cls.DECLARED, inputs, _ListedFiles(), on_step=host.progress(*phases), **more)

    @classmethod
    def shown(cls, done: Performed) -> io.NodeOutput:
        pictures = [draw(done.report) for draw in PICTURES.get(cls.DECLARED.id, ())]
        return io.NodeOutput(*done.texts, *pictures, ui=shown(cls, done.report, *pictures))


def operation_node(declared: Node, base: type[OperationNode] = OperationNode) -> type[OperationNode]:
    """Return the class of a node. Its `validate_inputs` names the inputs that it checks; the host checks the others."""

    async def validate_inputs(cls: type[OperationNode], **chosen: Any) -> bool | str:
        return await looked_at(lambda: cls.problem(chosen))

    of_files = (option.name for option in declared.options if option.type in (*_PATHS, "NEW_FILE"))
    checked = ("cls", *of_files, *base.CHECKED)
    parameters = [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in checked]
    validate_inputs.__signature__ = Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
    return type(declared.id, (base,), {"DECLARED": declared, "validate_inputs": classmethod(validate_inputs)})


_PATHS = {"LORA_FILE": host.lora_path, "MODEL_FILE": host.model_path}


def _named_files(node: Node, values: Mapping[str, Any]) -> Iterator[tuple[Option, str]]:
    """Yield the inputs that name files, with the names."""
    for option in node.options:
        if option.type in _PATHS and (name := values.get(option.name)) is not None:
            yield option, name


def _prefixes(node: Node, values: Mapping[str, Any]) -> Iterator[str]:
    """Yield the inputs that say how a new file is called."""
    for option in node.options:
        if option.type == "NEW_FILE" and (prefix := values.get(option.name)) is not None:
            yield str(prefix)
