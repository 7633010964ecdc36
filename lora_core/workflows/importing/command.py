"""A workflow file converted into another, never over one that is there unless that is asked for."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ...errors import LoraError, about
from ...files.outputs import check_target
from ...files.temporary import write_text
from ...library.modelfolders import LORAS, ModelFolders
from ...options import ImportTarget
from ...report import Report, Stopwatch, described_file
from ...shortage import tells_shortages
from ..graph import is_standard_input, name_of, read_json
from .workflows import convert_workflow


@tells_shortages
def import_workflow(
    file: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    to: ImportTarget = "loracore",
    models: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> Report:
    """Write `file`, a workflow in either format, with other packs' LoRA nodes as ours, or ours as built-in loaders.

    `file` may be "-", standard input. `models` is ComfyUI's models folder: with it, names without an ending are
    completed. Raises LoraError, and then writes nothing, for what is no workflow, and for an `out` that exists without
    `overwrite`.
    """
    source, target = Path(file), Path(out)
    report = Report("import", inputs=[{"name": name_of(source)}])
    watch = Stopwatch(report)
    check_target(target, overwrite, [] if is_standard_input(source) else [source], ending=".json")
    data = read_json(source)
    try:
        result = convert_workflow(data, to=to, names=lora_names(models))
    except LoraError as error:
        raise about(error, f"{name_of(source)}: ") from error
    text = json.dumps(result.workflow, ensure_ascii=False, indent=2) + "\n"
    report.notes = [counted_nodes(result.converted), *result.notes]
    watch.stop()  # what may fail comes before the file
    write_text(target, text, overwrite=overwrite)
    report.outputs = [described_file(target)]
    return report


def lora_names(models: str | os.PathLike[str] | None) -> list[str] | None:
    """Return the LoRA files in a models folder as ComfyUI lists them, or None without a folder."""
    return None if models is None else ModelFolders(Path(models)).names(LORAS)


def counted_nodes(count: int) -> str:
    return f"converted {count} node" + ("" if count == 1 else "s")
