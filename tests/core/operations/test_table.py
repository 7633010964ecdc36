"""The list of operations fits what is declared: every input fills an argument, and a default is the same in both."""

from __future__ import annotations

import inspect

import pytest

import lora_core
from lora_core.operations import NODE_OPERATIONS, NODES, OPERATIONS, Operation
from lora_core.options import LOAD, STACK, Option

VALUES = ("FLOAT", "INT", "BOOLEAN", "COMBO")
each_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)


def parameters(operation: Operation) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(operation.as_node or operation.function).parameters)


@each_operation
def test_every_input_fills_an_argument(operation: Operation) -> None:
    assert {item.fills for item in operation.declared.inputs} <= set(parameters(operation))
    assert "on_step" in parameters(operation)


@each_operation
def test_a_default_of_the_function_is_the_declared_one(operation: Operation) -> None:
    options = [item for item in operation.declared.inputs if isinstance(item, Option) and item.type in VALUES]
    defaults = {option.name: parameters(operation)[option.fills].default for option in options}
    given = {name: default for name, default in defaults.items() if default is not inspect.Parameter.empty}
    assert given == {option.name: option.default for option in options if option.name in given}


def test_every_node_but_those_without_files_is_an_operation_of_the_library() -> None:
    assert set(NODES) - set(NODE_OPERATIONS) == {LOAD.id, STACK.id}
    assert all(getattr(lora_core, name) is operation.function for name, operation in OPERATIONS.items())
