"""The beginning and the end of an operation that writes one LoRA file; what lies between is the operation's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ..files.outputs import check_target
from ..lazytorch import torch
from ..parallel.progress import OnStep
from ..receipts.receipt import NamedModel, receipt_of
from ..report import Report
from ..stack.opened import StackedLora
from .lorafile import write_lora
from .peft import PEFT_FILE, check_config, write_config


class InputModel(NamedModel, Protocol):
    """A model that is read: in files, which must stay as they are, or loaded."""

    @property
    def paths(self) -> Sequence[Path]: ...

    def check_unchanged(self) -> None: ...


class LoraWork:
    """One run of an operation, once its inputs are open. Use as a context manager.

    What can't be written is refused at once, and not after minutes of work; the inputs are hashed beside it, and
    `write` puts their receipt into the file. Without a `target` nothing is written.
    """

    def __init__(
        self,
        report: Report,
        target: Path | None,
        options: Mapping[str, Any],
        on_step: OnStep | None,
        *,
        overwrite: bool,
        dialect: str = "",
        stack: Sequence[StackedLora] = (),
        base: InputModel | None = None,
        tuned: InputModel | None = None,
    ) -> None:
        """`options` are the receipt's; a file of PEFT's `dialect` and name has a configuration beside it."""
        self.report = report
        self._target, self._overwrite = target, overwrite
        self._sources = [*(item.lora.file for item in stack), *(model for model in (base, tuned) if model is not None)]
        self._paths = [path for source in self._sources for path in source.paths]
        self.has_config = dialect == "peft" and target is not None and target.name == PEFT_FILE
        if target is not None:
            check_target(target, overwrite, self._paths)
            if self.has_config:
                check_config(target, overwrite)
        self.receipt = receipt_of(report.operation, options, base=base, tuned=tuned, stack=stack)
        self._hashing = self.receipt.hashing(on_step)

    def __enter__(self) -> LoraWork:
        self._hashing.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._hashing.__exit__(*error)

    def step(self, done: int, total: int) -> None:
        """Tell that of `total` so much of the work is done."""
        self._hashing.step(done, total)

    def check_unchanged(self) -> None:
        """Raise FileChangedError if an input is not what it was when it was opened."""
        for source in self._sources:
            source.check_unchanged()

    def write(self, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str], config: str = "") -> None:
        """Write the file, and beside it the configuration of this text, if any; raises as `check_unchanged` does."""
        assert self._target is not None
        metadata = {**metadata, **self.receipt.metadata(self._hashing.wait())}
        self.check_unchanged()
        write_lora(self._target, tensors, metadata, self._paths, self.report, overwrite=self._overwrite)
        if config:
            write_config(self._target, config, self.report)
