"""What a LoRA changes, measured layer by layer and block by block: sizes, spectra, effective ranks, dead layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ...algebra.change import Change
from ...algebra.factored import effective_rank, singular_values
from ...algebra.svd import EXACT_SIDE, svd_of_dense
from ...lazytorch import torch
from ...parallel.pipeline import Worker, run_jobs
from ...report import LoraReport
from ...text import counted, some_names
from .changes import NEEDS_WEIGHT, NOT_FINITE, TOO_LARGE, UnmeasuredError, adapter_change
from .reference import AdapterLayer, Reference

SPECTRUM = 32  # singular values that a report tells of a layer
SEARCHED = 64  # and that are looked for in a large matrix that has no factors

ALL_ZERO = "all zero"


@dataclass(frozen=True, slots=True)
class Measure:
    """The size of one change."""

    norm: float  # |dW|_F
    values: torch.Tensor  # singular values in fp64, largest first: all, or the first of them
    is_whole: bool  # these are all that are not zero

    @property
    def spectral_norm(self) -> float:
        return float(self.values[0]) if len(self.values) else 0.0


def measured(change: Change) -> Measure:
    """Return norm and singular values of a change: exact from factors, and up to a side of 640 from whole matrices.

    Of larger matrices the first 64 singular values are found; their norm is exact.
    """
    if change.factors:
        values = singular_values(change.factors)
        return Measure(float(torch.linalg.vector_norm(values)), values, True)
    if min(change.size) <= EXACT_SIDE:
        values = torch.linalg.svdvals(change.dense().double())
        return Measure(float(torch.linalg.vector_norm(values)), values, True)
    found = svd_of_dense(change.dense(), SEARCHED)
    return Measure(found.total**0.5, found.values, False)


def analysed(
    layers: Sequence[AdapterLayer], reference: Reference, described: LoraReport, on_layers: Callable[[int], None]
) -> list[dict[str, Any]]:
    """Return what a report says of each layer of one file, and fill in `relative_size` and what has no effect.

    norm is |dW|_F at strength 1, spectral_norm sigma1, effective_rank exp(H(sigma²/sum sigma²)), stable_rank
    |dW|²_F/sigma1², spectrum the first sigma_i/sigma1; weight_norm is |W|_F of what the layer changes, and
    relative_size the share that dW has of it.
    None stands for what can't be told; a layer that can't be measured has a `problem`. `on_layers` gets how many were
    done, and may raise to cancel.
    """

    def job_of(layer: AdapterLayer) -> Callable[[Worker], dict[str, Any]]:
        return lambda worker: _counted(_entry(layer, reference.weight(layer)), worker)

    result = run_jobs([job_of(layer) for layer in layers], on_layers)
    weights = {  # |W|² of each target, once
        (layer.targets[0].key, layer.targets[0].start): entry["weight_norm"] ** 2
        for layer, entry in zip(layers, result, strict=True)
        if entry["weight_norm"] is not None and entry["norm"] is not None
    }
    changed = sum(entry["norm"] ** 2 for entry in result if entry["weight_norm"] is not None and entry["norm"])
    described.relative_size = (changed / sum(weights.values())) ** 0.5 if sum(weights.values()) else None
    described.without_effect = _dead(layers, result)
    return result


def summed(entries: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return what a report says of one file's layers of one block, of at least one.

    Effective rank and spectrum are means over the layers, each weighted by its |dW|².
    """
    layers = list(entries)
    known = [entry for entry in layers if entry["norm"]]
    square = sum(entry["norm"] ** 2 for entry in known)
    weighed = [entry for entry in known if entry["weight_norm"]]
    weights = sum(entry["weight_norm"] ** 2 for entry in layers if entry["weight_norm"] and entry["norm"] is not None)
    ranks = [entry["rank"] for entry in layers if entry["rank"] is not None]
    return {
        "layers": len(layers),
        "dead": sum(entry.get("problem") == ALL_ZERO for entry in layers),
        "unmeasured": sum(entry["norm"] is None for entry in layers),
        "norm": square**0.5,
        "relative_size": (sum(entry["norm"] ** 2 for entry in weighed) / weights) ** 0.5 if weights else None,
        "spectral_norm": max((entry["spectral_norm"] for entry in known), default=0.0),
        "rank": max(ranks, default=None),
        "effective_rank": _mean([(entry["effective_rank"], entry["norm"] ** 2) for entry in known]),
        "spectrum": _mean_spectrum(known),
    }


def unmeasured(name: str, entries: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield a warning for each reason why layers of the file `name` could not be measured."""
    for reason, what in (
        (NOT_FINITE, "NaN or infinity, so the file is damaged or its training failed, in"),
        (NEEDS_WEIGHT, "the change depends on the weights, and can't be measured without the model, of"),
        (TOO_LARGE, "the shapes are none that a training makes, and take far too much memory to be measured, in"),
    ):
        layers = [entry["name"] for entry in entries if entry.get("problem") == reason]
        if layers:
            yield f"{name}: {what} {counted(layers, 'layer')}: {some_names(layers)}."


def _counted(entry: dict[str, Any], worker: Worker) -> dict[str, Any]:
    worker.wrote(1)
    return entry


def _entry(layer: AdapterLayer, weight: torch.Tensor | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": layer.name, "block": layer.block, "kind": "/".join(layer.spec.kinds)}
    entry |= dict.fromkeys(
        ("rank", "norm", "spectral_norm", "effective_rank", "stable_rank", "weight_norm", "relative_size")
    )
    entry["spectrum"] = []
    try:
        change = adapter_change(layer, weight)
    except UnmeasuredError as error:
        return {**entry, "problem": str(error)}
    measure = measured(change)
    if weight is not None:
        entry["weight_norm"] = norm = float(torch.linalg.vector_norm(weight, dtype=torch.float64))
        entry["relative_size"] = measure.norm / norm if norm else None
    entry |= {"norm": measure.norm, "spectral_norm": measure.spectral_norm}
    if not measure.norm:
        entry["problem"] = ALL_ZERO
    if min(change.size) == 1:  # a bias or a norm has no rank to speak of
        return entry
    if change.factors:
        entry["rank"] = min(*change.size, change.factors[0].shape[1])
    if measure.norm:
        entry["effective_rank"] = effective_rank(measure.values) if measure.is_whole else None
        entry["stable_rank"] = (measure.norm / measure.spectral_norm) ** 2
        entry["spectrum"] = [round(value, 6) for value in (measure.values[:SPECTRUM] / measure.values[0]).tolist()]
    return entry


def _dead(layers: Sequence[AdapterLayer], entries: Sequence[dict[str, Any]]) -> list[str]:
    """Return the modules of which nothing changes, a bias included."""
    alive = {layer.spec.module for layer, one in zip(layers, entries, strict=True) if one.get("problem") != ALL_ZERO}
    return [module for module in dict.fromkeys(layer.spec.module for layer in layers) if module not in alive]


def _mean(pairs: Iterable[tuple[float | None, float]]) -> float | None:
    known = [(value, weight) for value, weight in pairs if value is not None]
    total = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / total if total else None


def _mean_spectrum(entries: Sequence[dict[str, Any]]) -> list[float]:
    spectra = [(entry["spectrum"], entry["norm"] ** 2) for entry in entries if entry["spectrum"]]
    longest = max((len(spectrum) for spectrum, _ in spectra), default=0)
    places = (
        _mean([(spectrum[place] if place < len(spectrum) else 0.0, weight) for spectrum, weight in spectra])
        for place in range(longest)
    )
    return [round(value or 0.0, 6) for value in places]
