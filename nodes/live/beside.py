"""A stack beside the weights of a loaded model: each layer's output gets its part, and no weight is touched.

The stack hangs on the patcher as a wrapper around each call of the model, which sets hooks on the layers for the time
of the call. So nothing is to be restored when ComfyUI unloads, clones or interrupts, and whoever calls the model with
this patcher's options gets the stack. What reads the weights themselves (saving, merging models) is given the stack as
patches. A layer whose forward the host does not call, because kernels of its own read the weight, has its part put into
the weight at each use instead.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Collection, Generator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch

from ...lora_core.adapters import unpacked
from ...lora_core.errors import LoraError
from ...lora_core.naming.targets import Target
from ...lora_core.stack.apply import Placed
from ...lora_core.stack.branches import Gain, Layer, LayerBranch, PlacedKronecker, branch_of
from ..host import attribute, load_models, loaded_weights, patcher_of
from .keystack import KeyStack

KEY = "lora_core"  # of what hangs on a patcher
_CALL, _CLONE = "apply_model", "on_clone"  # the host's names: a wrapper of a call of the model, a callback
_CONVOLUTIONS = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
_KEPT = 4  # sets of factors that a model keeps, for stacks that are used again


class Entry(NamedTuple):
    """An adapter on one weight, and whose strength counts for it."""

    packed: tuple[Any, ...]
    target: Target
    share: float  # of the owner's strength
    name: str
    owner: int

    def placed(self) -> Placed:
        return Placed(unpacked(self.packed), self.target, self.share, self.name)


class LayerFactors(torch.nn.Module):
    """The branch of one layer, as parameters that the host moves and counts."""

    def __init__(self, branch: LayerBranch, dtype: torch.dtype, strengths: torch.nn.Parameter) -> None:
        super().__init__()
        tensors = {"down": branch.down, "up": branch.up}
        for number, one in enumerate(branch.kroneckers):
            tensors |= {f"w1_{number}": one.w1, f"w2_{number}": one.w2}
        if branch.gain is not None:
            tensors["gain"] = branch.gain.rows
        for name, tensor in tensors.items():
            self.register_parameter(name, torch.nn.Parameter(tensor.to(dtype).contiguous(), requires_grad=False))
        self.register_parameter("owner", torch.nn.Parameter(branch.owner, requires_grad=False))
        self.register_parameter("strengths", strengths)
        self.called = False  # since it was last asked
        self.has_gain, self._gain_owner = branch.gain is not None, branch.gain.owner if branch.gain else 0
        self._kroneckers = [(one.start, one.owner) for one in branch.kroneckers]

    def branch(self, like: torch.Tensor) -> LayerBranch:
        named = {
            name: value.to(like.device, like.dtype if value.is_floating_point() else None)
            for name, value in self.named_parameters()
            if name != "strengths"
        }
        gain = Gain(named["gain"], self._gain_owner) if self.has_gain else None
        kroneckers = tuple(
            PlacedKronecker(named[f"w1_{number}"], named[f"w2_{number}"], start, owner)
            for number, (start, owner) in enumerate(self._kroneckers)
        )
        return LayerBranch(named["down"], named["up"], named["owner"], gain, kroneckers)

    def forward(self, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], y: torch.Tensor) -> torch.Tensor:
        """Return the output y of `module` with the stack's part, as a hook of the module."""
        self.called = True
        return self.branch(y).added_to(y, inputs[0].to(y.dtype), self.strengths.to(y.device), layer_of(module, y))


class Factors(torch.nn.Module):
    """All branches of a stack on one model, and the strengths, which are written before each call."""

    def __init__(self, layers: Mapping[str, LayerFactors], strengths: torch.nn.Parameter) -> None:
        super().__init__()
        self.strengths = strengths
        self.layers = torch.nn.ModuleList(layers.values())
        self.by_key = dict(layers)

    @classmethod
    def of(cls, branches: Mapping[str, LayerBranch], dtype: torch.dtype, owners: int) -> Factors:
        strengths = torch.nn.Parameter(torch.zeros(owners), requires_grad=False)
        return cls({key: LayerFactors(one, dtype, strengths) for key, one in branches.items()}, strengths)

    def without(self, keys: Collection[str]) -> Factors:
        return Factors({key: one for key, one in self.by_key.items() if key not in keys}, self.strengths)


def layer_of(module: torch.nn.Module, y: torch.Tensor | None = None) -> Layer:
    """Return how a module uses its weight; `y` is an output, whose device and dtype its bias is to have."""
    bias: Any = getattr(module, "bias", None)
    bias = bias.to(y.device, y.dtype) if bias is not None and y is not None else None
    if not isinstance(module, _CONVOLUTIONS):
        return Layer(torch.nn.functional.linear, bias=bias)
    convolve: Any = module._conv_forward  # with the padding that it has, zeros or not
    return Layer(lambda x, weight: convolve(x, weight, None), True, module.groups, bias)


def is_layer(module: Any) -> bool:
    """Tell whether a branch can stand beside a module's weight: a linear layer's, of any class, or a convolution's."""
    return isinstance(module, _CONVOLUTIONS) or (hasattr(module, "in_features") and hasattr(module, "out_features"))


@dataclass(frozen=True, eq=False)
class LiveStack:
    """The stack of one patcher. It does not change; a further Load LoRA makes a new one of it."""

    strengths: tuple[float, ...]  # one for each owner
    entries: Mapping[str, tuple[Entry, ...]]  # key -> what stands beside the weight, in order
    factors: Factors
    unread: set[str] = field(default_factory=set[str])  # keys of layers whose forward the host does not call

    def __call__(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        """Call the model with the stack, as the host calls a wrapper."""
        model = executor.class_obj
        with self._beside(model):
            result = executor(*args, **kwargs)
        unread = {key for key, factors in self.factors.by_key.items() if not factors.called} - self.unread
        if not unread:
            return result
        self.unread.update(unread)
        with self._beside(model):
            return executor(*args, **kwargs)

    @contextlib.contextmanager
    def _beside(self, model: Any) -> Generator[None, None, None]:
        """Hook all layers for the time of a call."""
        with contextlib.ExitStack() as hooks:
            self.factors.strengths.data.copy_(torch.tensor(self.strengths))
            for key, factors in self.factors.by_key.items():
                module = attribute(model, key.rpartition(".")[0])
                if key in self.unread:
                    hooks.enter_context(_in_weight(module, key, self.patch(key)))
                else:
                    factors.called = False
                    hooks.callback(module.register_forward_hook(factors).remove)
            yield

    def without(self, keys: Collection[str]) -> LiveStack | None:
        """Return the stack without some of its layers."""
        kept = {key: some for key, some in self.entries.items() if key not in keys}
        return LiveStack(self.strengths, kept, self.factors.without(keys)) if kept else None

    def patch(self, key: str) -> KeyStack:
        """Return the same as a patch of the weight."""
        entries = self.entries[key]
        stack = tuple((one.packed, one.target, one.share * self.strengths[one.owner], one.name) for one in entries)
        return KeyStack({one.name for one in entries}, ("paper", stack))


@contextlib.contextmanager
def _in_weight(module: Any, key: str, patch: KeyStack) -> Generator[None, None, None]:
    """Have the host put a patch into a weight at each use."""
    if not hasattr(module, "weight_function"):
        raise LoraError(f"{key}: ComfyUI uses this weight without its layer; set apply to patch.")

    def patched(weight: torch.Tensor) -> torch.Tensor:
        return patch.calculate_weight(weight.clone(), key, 1.0, 1.0, None, None, weight.dtype)

    before = {name: module.__dict__.get(name) for name in ("weight_function", "comfy_cast_weights")}
    module.weight_function, module.comfy_cast_weights = [*module.weight_function, patched], True
    try:
        yield
    finally:
        for name, value in before.items():
            delattr(module, name) if value is None else setattr(module, name, value)


# Made


_factors: weakref.WeakKeyDictionary[Any, dict[tuple[Any, ...], tuple[Any, Factors]]] = weakref.WeakKeyDictionary()


def live_stack(
    patcher: Any, strengths: tuple[float, ...], entries: Mapping[str, tuple[Entry, ...]]
) -> tuple[LiveStack | None, list[str]]:
    """Return the stack for a patcher's model, and the keys that have no branch: their weights have to be patched."""
    branches = {key: _branch(patcher, key, some) for key, some in entries.items()}
    rest = [key for key, branch in branches.items() if branch is None]
    found = {key: branch for key, branch in branches.items() if branch is not None}
    if not found:
        return None, rest
    factors = Factors.of(found, patcher.model.get_dtype_inference(), len(strengths))
    return LiveStack(strengths, {key: entries[key] for key in found}, factors), rest


def _branch(patcher: Any, key: str, entries: Collection[Entry]) -> LayerBranch | None:
    module = attribute(patcher.model, key.rpartition(".")[0])
    if not is_layer(module) or not key.endswith(".weight"):
        return None
    stack = [(one.placed(), one.owner) for one in entries]
    needs_values = any(not placed.adapter.additive for placed, _ in stack)
    if needs_values and key in patcher.patches:
        return None  # it reads the weight as those before it left it
    weight = loaded_weights(patcher)[key] if needs_values else torch.empty(tuple(module.weight.shape), device="meta")
    return branch_of(weight, stack, getattr(module, "groups", 1))


# On a patcher


def stack_of(patcher: Any) -> LiveStack | None:
    found = patcher.get_attachment(KEY)
    return found if isinstance(found, LiveStack) else None


def hang(patcher: Any, stack: LiveStack | None) -> None:
    """Make `stack` the one stack of a patcher, instead of what it had."""
    patcher.remove_wrappers_with_key(_CALL, KEY)
    patcher.remove_callbacks_with_key(_CLONE, KEY)
    patcher.remove_attachments(KEY)
    patcher.remove_additional_models(KEY)
    for name in _INSTEAD:
        patcher.__dict__.pop(name, None)
    if stack is None:
        return
    patcher.set_attachments(KEY, stack)
    patcher.set_additional_models(KEY, [patcher_of(stack.factors, patcher)])
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
        named = {key if isinstance(key, str) else key[0]: patch for key, patch in patches.items()}
        first = {
            key
            for key in named.keys() & stack.entries.keys()
            if strength_model != 1 or stack.factors.by_key[key].has_gain or not _is_sum(named[key])
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
    return is_lora and patch.weights[4] is None  # without DoRA's magnitude


_INSTEAD: dict[str, Callable[..., Any]] = {
    "get_key_patches": _key_patches,
    "state_dict_for_saving": _state_dict_for_saving,
    "add_patches": _add_patches,
}
