"""How a stack beside the weights hangs on a patcher: a wrapper of the model's call, its factors as a further model.

What reads the weights themselves instead of calling the model (saving, merging models) is given the stack as patches.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from ...lora_core.adapters import unpacked
from ...lora_core.stack.branches import LayerBranch, branch_of
from ..hostmodels import attribute, load_models, loaded_weights, patcher_of, unpacked_weight
from .beside import KEY, Entry, Factors, LiveStack, is_layer
from .keystack import KeyStack

_KEPT = 4  # stacks whose factors a model keeps
_RUN, _CALL, _CLONE = "outer_sample", "apply_model", "on_clone"  # the host's names of wrappers and of a callback


Content = tuple[Any, ...]  # what tells the factors of a stack from others

_made: weakref.WeakKeyDictionary[Any, OrderedDict[Content, Made]] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def live_stack(
    patcher: Any, strengths: tuple[float, ...], entries: Mapping[str, tuple[Entry, ...]]
) -> tuple[LiveStack | None, list[str]]:
    """Return the stack for a patcher's model, and the keys that have no branch: their weights have to be patched.

    Factors are kept for the model's last stacks, so that other strengths of the same LoRAs make none.
    """
    if not entries:  # as with every stack that is patched
        return None, []
    made = _kept(patcher, len(strengths), entries)
    live = {key: some for key, some in entries.items() if key not in made.rest}
    stack = LiveStack(strengths, live, made.factors, made.loader, weakref.ref(patcher.model)) if live else None
    return stack, list(made.rest)


@dataclass(frozen=True)
class Made:
    """The factors of a stack, and the keys that have none; the entries stay, so that no other gets their ids."""

    entries: Mapping[str, tuple[Entry, ...]]
    factors: Factors
    loader: Any  # kept with them: the host takes factors that outlive it for a leak
    rest: frozenset[str]


def _kept(patcher: Any, owners: int, entries: Mapping[str, tuple[Entry, ...]]) -> Made:
    told = tuple((key, *((id(one.packed), *one[1:]) for one in some)) for key, some in entries.items())
    content = owners, told, frozenset(entries.keys() & patcher.patches.keys()), str(patcher.load_device)
    with _lock:
        known = _made.setdefault(patcher.model, OrderedDict())
        if content not in known:
            known[content] = _make(patcher, owners, entries)
        known.move_to_end(content)
        while len(known) > _KEPT:
            known.popitem(last=False)
        return known[content]


def _make(patcher: Any, owners: int, entries: Mapping[str, tuple[Entry, ...]]) -> Made:
    with torch.inference_mode(False):  # a node that trains through the model may need them in its graph
        weights = loaded_weights(patcher)
        branches = {key: _branch(patcher, key, some, weights) for key, some in entries.items()}
        found = {key: branch for key, branch in branches.items() if branch is not None}
        factors = Factors.of(found, patcher.model.get_dtype_inference(), owners)
    return Made(entries, factors, patcher_of(factors, patcher), frozenset(branches.keys() - found.keys()))


def _branch(patcher: Any, key: str, entries: Collection[Entry], weights: Mapping[str, Any]) -> LayerBranch | None:
    module = attribute(patcher.model, key.rpartition(".")[0])
    if not is_layer(module) or not key.endswith(".weight"):
        return None
    stack = [(one.placed(), one.owner) for one in entries]
    weight = torch.empty(tuple(module.weight.shape), device="meta")
    if any(not placed.adapter.additive for placed, _ in stack):
        if key in patcher.patches:
            return None  # it reads the weight as those before it left it
        stored = weights[key]
        weight = stored.float().cpu() if stored.is_floating_point() else unpacked_weight(patcher, key, stored)
    return None if weight is None else branch_of(weight, stack, getattr(module, "groups", 1))


def stack_of(patcher: Any) -> LiveStack | None:
    found = patcher.get_attachment(KEY)
    return found if isinstance(found, LiveStack) else None


def hang(patcher: Any, stack: LiveStack | None) -> None:
    """Make `stack` the one stack of a patcher, instead of what it had."""
    for call in (_RUN, _CALL):
        patcher.remove_wrappers_with_key(call, KEY)
    patcher.remove_callbacks_with_key(_CLONE, KEY)
    patcher.remove_attachments(KEY)
    patcher.remove_additional_models(KEY)
    for name in _INSTEAD:
        patcher.__dict__.pop(name, None)
    if stack is None:
        return
    patcher.set_attachments(KEY, stack)
    patcher.set_additional_models(KEY, [stack.loader])
    patcher.add_wrapper_with_key(_RUN, KEY, stack.run)
    patcher.add_wrapper_with_key(_CALL, KEY, stack)
    patcher.add_callback_with_key(_CLONE, KEY, _dress)
    _dress(patcher, patcher)


def _dress(_: Any, patcher: Any) -> None:
    """Let a patcher, or a clone of it, give the stack to those who read weights instead of calling the model."""
    for name, instead in _INSTEAD.items():
        setattr(patcher, name, _Instead(instead, weakref.ref(patcher)))


@dataclass(frozen=True)
class _Instead:
    """A method of one patcher, which does not hold it."""

    function: Callable[..., Any]
    patcher: weakref.ref[Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(self.patcher(), *args, **kwargs)


def settled(patcher: Any) -> Any:
    """Return a clone with the stack as patches."""
    stack = stack_of(patcher)
    clone = patcher.clone()
    hang(clone, None)
    if stack is not None:
        clone.add_patches({key: stack.patch(key) for key in stack.entries})
    return clone


def _key_patches(patcher: Any, *args: Any, **kwargs: Any) -> Any:
    return settled(patcher).get_key_patches(*args, **kwargs)


def _state_dict_for_saving(patcher: Any, *args: Any, **kwargs: Any) -> Any:
    clone = settled(patcher)
    load_models([clone])
    return clone.state_dict_for_saving(*args, **kwargs)


def _add_patches(patcher: Any, patches: Mapping[Any, Any], strength_patch: float = 1, strength_model: float = 1) -> Any:
    """Add patches; what stands beside a weight goes into it first if one of them depends on the weight."""
    stack = stack_of(patcher)
    add = partial(type(patcher).add_patches, patcher)
    if stack is not None:
        named = [(key if isinstance(key, str) else key[0], patch) for key, patch in patches.items()]
        first = {
            key
            for key, patch in named
            if key in stack.entries
            and (strength_model != 1 or stack.factors.by_key[key].has_gain or not _is_sum(patch))
        }
        if first:
            add({key: stack.patch(key) for key in first})
            hang(patcher, stack.without(first))
    return add(patches, strength_patch, strength_model)


def _is_sum(patch: Any) -> bool:
    """Tell whether a patch adds the same to any weight."""
    if isinstance(patch, KeyStack):
        return all(unpacked(packed).additive for packed, *_ in patch.weights[1])
    if isinstance(patch, tuple):
        return len(patch) == 1 or patch[0] == "diff"  # the host's own plain differences
    is_lora = getattr(patch, "name", "") == "lora"
    return is_lora and not any(one is not None for one in patch.weights[4:])  # no DoRA's magnitude, no other shape


_INSTEAD: dict[str, Callable[..., Any]] = {
    "get_key_patches": _key_patches,
    "state_dict_for_saving": _state_dict_for_saving,
    "add_patches": _add_patches,
}
