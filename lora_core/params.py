"""The modules of a model, from its keys."""

from __future__ import annotations

from .arch.base import Shapes

# Key endings that are another spelling of a module's parameter
_PARAM_SPELLINGS = {"scale": "weight"}  # BFL's norms
_FUSED_PARAMS = {"in_proj_weight": ("in_proj", "weight"), "in_proj_bias": ("in_proj", "bias")}  # torch's attention


def params_of(prefix: str, shapes: Shapes) -> dict[str, dict[str, str]]:
    """Return {module: {parameter: key}} of the keys below `prefix`; a parameter is a module of its own too."""
    modules: dict[str, dict[str, str]] = {}
    for key in shapes:
        if not key.startswith(prefix):
            continue
        local = key[len(prefix) :]
        head, _, last = local.rpartition(".")
        joined, param = _FUSED_PARAMS.get(last, ("", _PARAM_SPELLINGS.get(last, last)))
        module = ".".join(name for name in (head, joined) if name)
        if module:
            modules.setdefault(module, {}).setdefault(param, key)
        if param != "weight":
            modules.setdefault(local, {}).setdefault("weight", key)
    return modules
