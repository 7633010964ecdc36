"""The weights in what a PyTorch file holds: its dict of tensors, or the one inside a trainer's checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from ..tensorheader import MAX_NAME_BYTES, MAX_TENSORS
from .values import Opaque, PickledTensor

MAX_NESTING = 4
# What trainers call the weights in a checkpoint of theirs, beside epochs and optimizers; an adapter before its base
_WEIGHTS = (
    *("lora", "lora_state_dict", "lora_weights", "adapter", "adapter_state_dict", "peft", "peft_state_dict"),
    *("state_dict", "model_state_dict", "model", "network", "module", "params_ema", "params", "weights", "net"),
)

AnyTensor = PickledTensor | Opaque  # an opaque one is a tensor of another kind, and refused by its name


def state_dict(content: Any) -> tuple[dict[str, AnyTensor], list[str]]:
    """Return (tensors, names of what was ignored), from inside the dict of a trainer's checkpoint that holds them."""
    ignored: list[str] = []
    for _ in range(MAX_NESTING):  # a dict may hold itself
        inner = _inner(content)
        if inner is None:
            break
        ignored += [str(key)[:80] for key in content if key != inner]
        content = content[inner]
    tensors: dict[str, AnyTensor] = {}
    for key, value in content.items() if isinstance(content, Mapping) else ():
        if isinstance(key, str) and _is_tensor(value):
            tensors[key] = value
        else:
            ignored.append(str(key)[:80])
    return tensors or _nested(content), ignored


def _is_tensor(value: Any) -> TypeGuard[AnyTensor]:
    return isinstance(value, PickledTensor) or (isinstance(value, Opaque) and value.is_tensor)


def _inner(content: Any) -> Any:
    """Return the key of a dict below which the weights are; None if they are in the dict itself."""
    if not isinstance(content, Mapping) or any(map(_is_tensor, content.values())):
        return None
    dicts = [key for key, value in content.items() if isinstance(value, Mapping) and value]
    named = [key for key in _WEIGHTS if key in dicts]
    if named or len(dicts) == len(content) == 1:
        return (named or dicts)[0]
    different = {id(content[key]): content[key] for key in dicts}  # one dict may be there a million times
    of_tensors = {one for one, value in different.items() if any(map(_is_tensor, value.values()))}
    keys = [key for key in dicts if id(content[key]) in of_tensors]
    return keys[0] if len(keys) == 1 else None


def _nested(content: Any) -> dict[str, AnyTensor]:
    """Return the tensors of dicts and lists within one another, their names joined with dots: so files of other things
    than weights are known by their names. The first of so many values are looked at, however often they are shared."""
    found: dict[str, AnyTensor] = {}
    waiting: list[tuple[str, int, Any]] = [("", 0, content)]
    looked_at = 0
    while waiting:
        start, level, value = waiting.pop()
        for key, inner in _items(value):
            looked_at += 1
            if looked_at > MAX_TENSORS:
                return found
            name = f"{start}{key}"[:MAX_NAME_BYTES] if isinstance(key, (str, int)) else start
            if _is_tensor(inner):
                found[name] = inner
            elif level < MAX_NESTING:
                waiting.append((f"{name}.", level + 1, inner))
    return found


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, (list, tuple)):
        yield from enumerate(value)
