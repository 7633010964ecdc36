"""A stack on a loaded model, or on the two models that share the steps: one for high noise, one for low."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...lora_core.report import Report
from ...lora_core.stack.entry import StackEntry
from ...lora_core.stack.pairs import for_model, unused
from .patches import Applied, apply_live


@dataclass(frozen=True)
class AppliedPair:
    high: Applied
    low: Applied | None
    report: Report

    @property
    def trigger_words(self) -> str:
        """The words of all files, each once."""
        texts = [one.trigger_words for one in (self.high, self.low) if one]
        return ", ".join(dict.fromkeys(word for text in texts for word in text.split(", ") if word))


def apply_to_both(model: Any, model_low: Any, clip: Any, entries: Sequence[StackEntry], **options: Any) -> AppliedPair:
    """Return what `apply_live` makes of `model` and of `model_low`, if there is one.

    Of a pair of files each model gets its own, and `clip` what is for it in the high-noise one.
    """
    high = apply_live(model, clip, for_model(entries, "high"), **options)
    if model_low is None:
        high.report.warnings += unused(entries, "model_low is not wired")
        return AppliedPair(high, None, high.report)
    # with the text encoder, so that modules for it are known; what it would get here is not given on
    low = apply_live(model_low, clip, for_model(entries, "low"), **options)
    return AppliedPair(high, low, _joined(high.report, low.report))


def _joined(high: Report, low: Report) -> Report:
    for report, pair in ((high, "high"), (low, "low")):
        for lora in report.loras:
            lora.pair = pair
    high.inputs += [item for item in low.inputs if item not in high.inputs]
    high.loras += low.loras
    high.warnings += [warning for warning in low.warnings if warning not in high.warnings]
    high.seconds += low.seconds
    return high
