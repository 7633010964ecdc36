"""A stack beside the weights of a loaded model: each layer's output gets its part, and no weight is touched.

The stack hangs on the patcher as a wrapper around a sampling, and around each call of the model for those who call it
otherwise, which sets hooks on the layers for that time. So nothing is to be restored when ComfyUI unloads, clones or
interrupts. A layer whose forward the host does not call, because kernels of its own read the weight, has its part put
into the weight at each use instead.
"""

from __future__ import annotations

import contextlib
import logging
import weakref
from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch

from ...lora_core.adapters import unpacked
from ...lora_core.errors import LoraError
from ...lora_core.naming.targets import Target
from ...lora_core.stack.apply import Placed
from ...lora_core.stack.branches import Gain, Layer, LayerBranch, PlacedKronecker
from ..hostmodels import attribute, patcher_of
from .keystack import KeyStack

KEY = "lora_core"  # of what hangs on a patcher
log = logging.getLogger(__name__)

_CONVOLUTIONS = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)


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
            own = tensor.to(dtype, copy=True).contiguous()
            self.register_parameter(name, torch.nn.Parameter(own, requires_grad=False))
        self.register_parameter("owner", torch.nn.Parameter(branch.owner, requires_grad=False))
        self.register_parameter("strengths", strengths)
        self.called = False  # since it was last asked
        self.has_gain, self._gain_owner = branch.gain is not None, branch.gain.owner if branch.gain else 0
        self._kroneckers = [(one.start, one.owner) for one in branch.kroneckers]

    def branch(self, like: torch.Tensor) -> LayerBranch:
        """Return it for outputs of this device and dtype."""
        gain = Gain(self.gain, self._gain_owner) if self.has_gain else None
        kroneckers = tuple(
            PlacedKronecker(getattr(self, f"w1_{number}"), getattr(self, f"w2_{number}"), start, owner)
            for number, (start, owner) in enumerate(self._kroneckers)
        )
        return LayerBranch(self.down, self.up, self.owner, gain, kroneckers).moved(like.device, like.dtype)

    def forward(self, module: torch.nn.Module, inputs: Sequence[Any], named: Mapping[str, Any], y: Any) -> torch.Tensor:
        """Return the output y of `module` with the stack's part, as a hook of the module."""
        self.called = True
        x = inputs[0] if inputs else next(iter(named.values()))
        return self.branch(y).added_to(y, x.to(y.dtype), self.strengths.to(y.device), layer_of(module, y))


class Factors(torch.nn.Module):
    """All branches of a stack on one model, and the strengths, which are written before each call."""

    def __init__(self, layers: Mapping[str, LayerFactors], strengths: torch.nn.Parameter) -> None:
        super().__init__()
        self.strengths = strengths
        self.layers = torch.nn.ModuleList(layers.values())
        self.by_key = dict(layers)
        self.unread: set[str] = set()  # keys of layers whose forward the host does not call

    @classmethod
    def of(cls, branches: Mapping[str, LayerBranch], dtype: torch.dtype, owners: int) -> Factors:
        strengths = torch.nn.Parameter(torch.zeros(owners), requires_grad=False)
        return cls({key: LayerFactors(one, dtype, strengths) for key, one in branches.items()}, strengths)

    def without(self, keys: Collection[str]) -> Factors:
        return Factors({key: one for key, one in self.by_key.items() if key not in keys}, self.strengths)


def layer_of(module: torch.nn.Module, y: torch.Tensor | None = None) -> Layer:
    """Return how a module uses its weight; `y` is an output, whose device and dtype its bias is to have."""
    bias: Any = getattr(module, "bias", None)
    if bias is not None and y is not None:
        bias = bias.to(y.device, y.dtype)
        for change in getattr(module, "bias_function", ()):  # patches that the host applies at each use
            bias = change(bias)
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
    loader: Any  # the host's patcher of the factors, which moves them and counts their memory
    model: weakref.ref[Any]  # that it was made for

    def run(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        """Sample with the stack, as the host calls a wrapper: layers may be called before the model itself is."""
        patcher = executor.class_obj.model_patcher
        with _running(self, patcher.model, patcher):
            return executor(*args, **kwargs)

    def __call__(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a model with the stack that it has, as the host calls a wrapper."""
        model = executor.class_obj
        patcher = getattr(model, "current_patcher", None)
        stack = self
        if model is not self.model():  # a copy on another device, or another model that is sampled with ours
            stack = patcher.get_attachment(KEY) if patcher is not None else None
            if not isinstance(stack, LiveStack):
                return executor(*args, **kwargs)
        run = _runs.get(model)
        if run is not None and run.stack is stack:
            return run.call(executor, args, kwargs)
        with _running(stack, model, patcher) as run:
            return run.call(executor, args, kwargs)

    def without(self, keys: Collection[str]) -> LiveStack | None:
        """Return the stack without some of its layers."""
        kept = {key: some for key, some in self.entries.items() if key not in keys}
        if not kept:
            return None
        factors = self.factors.without(keys)
        return replace(self, entries=kept, factors=factors, loader=patcher_of(factors, self.loader))

    def patch(self, key: str) -> KeyStack:
        """Return the same as a patch of the weight."""
        entries = self.entries[key]
        stack = tuple((one.packed, one.target, one.share * self.strengths[one.owner], one.name) for one in entries)
        return KeyStack({one.name for one in entries}, ("paper", stack))


@dataclass(eq=False)
class _Run:
    """A stack on the layers of a model, from before its first call to after its last."""

    stack: LiveStack
    model: Any
    hooks: contextlib.ExitStack
    handles: dict[str, Any] = field(default_factory=dict)
    in_weights: list[_InWeight] = field(default_factory=list)
    calls: int = 0
    is_judged: bool = False  # whether it is known which layers the host calls

    def begin(self, patcher: Any) -> None:
        factors = self.stack.factors
        unread = set(factors.unread)
        if getattr(patcher, "injections", None):  # a gain would scale what these add to the output of layers
            unread |= {key for key, one in factors.by_key.items() if one.has_gain}
        for key, one in factors.by_key.items():
            one.called = False
            if key not in unread:
                module = attribute(self.model, key.rpartition(".")[0])
                handle = self.handles[key] = module.register_forward_hook(one, prepend=True, with_kwargs=True)
                self.hooks.callback(handle.remove)
        self._to_weights(unread)

    def call(self, executor: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Call the model; the first time again, if there are layers that the host does not call."""
        self.calls += 1
        for one in self.in_weights:
            one.put()
        factors = self.stack.factors
        factors.strengths.data.copy_(torch.tensor(self.stack.strengths))
        if self.is_judged:
            return executor(*args, **kwargs)
        again = [_copied(one) for one in args], {name: _copied(one) for name, one in kwargs.items()}
        result = executor(*args, **kwargs)
        called = {key for key in self.handles if factors.by_key[key].called}
        if not called and self.handles:  # some cache gave the result
            return result
        self.is_judged = True
        unread = self.handles.keys() - called
        if not unread:
            return result
        factors.unread |= unread
        log.info("LoRA Core: ComfyUI calls %d layers by other ways; the LoRAs go into their weights", len(unread))
        self._to_weights(unread)
        for one in self.in_weights:
            one.put()
        return executor(*again[0], **again[1])

    def end(self) -> None:
        if self.calls and not self.is_judged:
            raise LoraError("Load LoRA: no layer with a LoRA beside it was called; set apply to patch.")

    def _to_weights(self, keys: Collection[str]) -> None:
        for key in keys:
            if key in self.handles:
                self.handles.pop(key).remove()
            module = attribute(self.model, key.rpartition(".")[0])
            self.in_weights.append(_InWeight(module, key, self.stack.patch(key)))
            self.hooks.callback(self.in_weights[-1].take)


_runs: weakref.WeakKeyDictionary[Any, _Run] = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def _running(stack: LiveStack, model: Any, patcher: Any) -> Generator[_Run, None, None]:
    """Have a stack on a model's layers, whatever ends it."""
    before = _runs.get(model)
    with contextlib.ExitStack() as hooks:
        run = _runs[model] = _Run(stack, model, hooks)
        try:
            run.begin(patcher)
            yield run
        finally:
            if before is None:
                _runs.pop(model, None)
            else:
                _runs[model] = before
    run.end()


def _copied(argument: Any) -> Any:
    """Return what a call of the model may empty, as it does with the lists of a ControlNet, in lists of its own."""
    if not isinstance(argument, dict):
        return argument
    return {name: list(value) if isinstance(value, list) else value for name, value in argument.items()}


@dataclass(eq=False)
class _InWeight:
    """A patch that is in a weight at each use; where the host has no means for that, until it is taken out."""

    module: Any
    key: str
    patch: KeyStack
    before: dict[str, Any] | None = None  # of the module's own attributes

    def put(self) -> None:
        """Put it there, if it is not: the host takes it out when it loads a model."""
        module = self.module
        if hasattr(module, "weight_function"):
            if self.function not in module.weight_function:
                self.before = {"comfy_cast_weights": module.__dict__.get("comfy_cast_weights")}
                module.weight_function, module.comfy_cast_weights = [*module.weight_function, self.function], True
        elif self.before is None:
            if not module.weight.is_floating_point():
                raise LoraError(f"{self.key}: ComfyUI uses this weight without its layer; set apply to patch.")
            self.before = {"weight": module.weight}
            module.weight = torch.nn.Parameter(self.function(module.weight.detach()), requires_grad=False)

    def take(self) -> None:
        """Take it out, and nothing that others have put there meanwhile."""
        if hasattr(self.module, "weight_function"):
            self.module.weight_function = [one for one in self.module.weight_function if one != self.function]
        for name, value in (self.before or {}).items():
            delattr(self.module, name) if value is None else setattr(self.module, name, value)

    def function(self, weight: torch.Tensor) -> torch.Tensor:
        return self.patch.calculate_weight(weight.clone(), self.key, 1.0, 1.0, None, None, weight.dtype)
