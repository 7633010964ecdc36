"""What became of a change when the weights were rounded into the written number format, and what would help."""

from __future__ import annotations

from collections.abc import Mapping

from ...algebra.rounding import RealisedChange
from ...files.dtypes import DTYPE_NAMES
from ...report import Report
from ...text import counted

LOST = 0.5  # of the change: above it the report warns

_ADVICE = {
    "bf16": "dtype fp32 keeps all of it, fp16 more of it in a file of the same size",
    "fp16": "dtype fp32 keeps all of it",
    "fp8": "dtype bf16 keeps more of it, fp16 still more, fp32 all",
}


def tell_precision(realised: Mapping[str, RealisedChange], report: Report) -> None:
    """Add to the report how far the written change is from the exact one, by the number format as headers name it.

    A warning where most of the change is lost, with what helps.
    """
    for dtype, found in realised.items():
        if not found.layers:
            continue
        name = _name(dtype)
        lost, strength = found.relative_error, found.strength
        report.precision.append({"dtype": name, "layers": found.layers, "error": lost, "strength": strength})
        text = (
            f"{counted(range(found.layers), 'changed layer')} written as {name}: the written change differs "
            f"from the exact one by {_percent(lost)}"
        )
        if lost <= LOST:
            report.notes.append(text)
        else:
            report.warnings.append(f"{text}, and has {_percent(strength)} of its strength: {_advice(name)}.")


def _name(dtype: str) -> str:
    names = {header: name for name, header in DTYPE_NAMES.items() if not header.startswith("F8_")}
    return "fp8" if dtype.startswith("F8_") else names.get(dtype, dtype)


def _advice(name: str) -> str:
    return _ADVICE.get(name, "choose a dtype with more digits")


def _percent(share: float) -> str:
    if 0 < share < 0.0001:
        return "less than 0.01%"
    return f"{share:.0%}" if share >= 0.1 or share == 0 else f"{100 * share:.2g}%"
