"""A stack beside the weights of a loaded model: each layer's output gets its part, and no weight is touched.

The stack hangs on the patcher as a wrapper around each call of the model, which sets hooks on the layers for the time
of the call. So nothing is to be restored when ComfyUI unloads, clones or interrupts, and whoever calls the model with
this patcher's options gets the stack. What reads the weights themselves (saving, merging models) is given the stack as
patches. A layer whose forward the host does not call, because kernels of its own read the weight, has its part put into
the weight at each use instead.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Generator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from ...lora_core.adapters import unpacked
from ...lora_core.errors import LoraError
from ...lora_core.naming.targets import Target
from ...lora_core.stack.apply import Placed
from ...lora_core.stack.branches import Gain, Layer, LayerBranch, PlacedKronecker
from ..hostmodels import attribute, patcher_of
from .keystack import KeyStack

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
    loader: Any  # the host's patcher of the factors, which moves them and counts their memory

    def __call__(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        """Call the model with the stack, as the host calls a wrapper."""
        model = executor.class_obj
        with self._beside(model):
            result = executor(*args, **kwargs)
        unread = {key for key, factors in self.factors.by_key.items() if not factors.called} - self.factors.unread
        if not unread:
            return result
        self.factors.unread.update(unread)
        log.info("LoRA Core: ComfyUI calls %d layers by other ways; the LoRAs go into their weights", len(unread))
        with self._beside(model):
            return executor(*args, **kwargs)

    @contextlib.contextmanager
    def _beside(self, model: Any) -> Generator[None, None, None]:
        """Hook all layers for the time of a call."""
        with contextlib.ExitStack() as hooks:
            self.factors.strengths.data.copy_(torch.tensor(self.strengths))
            for key, factors in self.factors.by_key.items():
                module = attribute(model, key.rpartition(".")[0])
                if key in self.factors.unread:
                    hooks.enter_context(_in_weight(module, key, self.patch(key)))
                else:
                    factors.called = False
                    hooks.callback(module.register_forward_hook(factors).remove)
            yield

    def without(self, keys: Collection[str]) -> LiveStack | None:
        """Return the stack without some of its layers."""
        kept = {key: some for key, some in self.entries.items() if key not in keys}
        if not kept:
            return None
        factors = self.factors.without(keys)
        return LiveStack(self.strengths, kept, factors, patcher_of(factors, self.loader))

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
