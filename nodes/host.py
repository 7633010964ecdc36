"""What LoRA Core needs of ComfyUI: file names, new file paths and progress. It and `hostmodels` alone import the host.

A model name is a name of the checkpoints folder as it is, or `diffusion_models/NAME` or `text_encoders/NAME`.
Names use forward slashes in our own lists, so that a workflow works on every system.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
import folder_paths
from comfy_api.latest import ComfyExtension, io, ui
from comfy_execution.graph_utils import ExecutionBlocker
from server import PromptServer

from ..lora_core.errors import FileFormatError, OutputError
from ..lora_core.files.names import checked_prefix, new_path
from ..lora_core.files.openfile import mark_of
from ..lora_core.library.listing import resolve

__all__ = [
    "ComfyExtension", "ExecutionBlocker", "add_gate", "add_route", "ask_cancelled", "file_marks", "fingerprint", "io",
    "listed_lora", "listed_name", "lora_names", "lora_path", "memory_bytes", "model_folder", "model_names",
    "model_path", "new_lora_path", "new_model_path", "own_file", "prefix_problem", "problem", "progress", "ui",
]  # fmt: skip

MODEL_FOLDERS = ("checkpoints", "diffusion_models", "text_encoders")
LEGACY_ROOTS = ("unet", "clip")  # models/unet and models/clip: still listed, but not where anyone looks for a new file


def lora_names() -> list[str]:
    return _names("loras")


def lora_path(name: str) -> Path:
    """Return the file that `name` means in the loras folders, or raise FileFormatError."""
    return _path("loras", resolve(name, lora_names(), "the loras folders"))


def listed_lora(name: str) -> Path:
    """Return the file of one of `lora_names`; raises FileFormatError if it is no longer there."""
    return _path("loras", name)


def model_names() -> list[str]:
    checkpoints, *others = MODEL_FOLDERS
    return _names(checkpoints) + [f"{folder}/{name}" for folder in others for name in _names(folder)]


def model_path(name: str) -> Path:
    """Return the file that a name of `model_names` means, or raise FileFormatError."""
    return _path(*_model(name))


def model_folder(name: str) -> str:
    """Return the folder that a name of `model_names` is in: checkpoints, diffusion_models or text_encoders."""
    return _model(name)[0]


def new_model_path(like_name: str, filename_prefix: str) -> Path:
    """Return the path of a new file in the folder of the model `like_name`."""
    return _new_path(model_folder(like_name), filename_prefix)


def new_lora_path(filename_prefix: str) -> Path:
    return _new_path("loras", filename_prefix)


def prefix_problem(prefix: str) -> str:
    """Return why no new file can be called so, an empty text if one can."""
    try:
        checked_prefix(prefix)
    except OutputError as error:
        return str(error)
    return ""


def listed_name(path: Path, folder: str) -> str:
    """Return the name under which ComfyUI's loaders list `path`, a file just written."""
    folder_paths.filename_list_cache.pop(folder, None)  # folder times are too coarse to show every new file at once
    names = set(folder_paths.get_filename_list(folder))
    for root in folder_paths.get_folder_paths(folder):
        name = os.path.relpath(path, root)
        if name in names:
            return name
    raise OutputError(f"{path.name}: written, but ComfyUI doesn't list it among its {folder}.")


def problem(find: Callable[[str], Path], names: Iterable[str | None]) -> bool | str:
    """Return True, or what is wrong with the first of `names` that `find` refuses; a linked input is None."""
    for name in names:
        if not isinstance(name, (str, type(None))):
            return f"expected the name of a file, found {name!r:.60}."
        try:
            if name is not None:
                find(name)
        except FileFormatError as error:
            return str(error)
    return True


def fingerprint(find: Callable[[str], Path], names: Iterable[str | None]) -> list[Any]:
    """Return names and marks of files, so that a node runs again after a file was overwritten."""
    return [mark for name in names if isinstance(name, str) for mark in file_marks(find, name)]


def file_marks(find: Callable[[str], Path], name: str) -> list[Any]:
    """Return name and mark of a file, as a list of one; none for a file that is not there."""
    try:
        mark = mark_of(find(name).stat())
    except (FileFormatError, OSError, ValueError):
        return []
    return [(name, *mark)]


def own_file(name: str) -> Path:
    """Return a file of our own in the host's user folder, where no route of the host reaches it."""
    return Path(folder_paths.get_user_directory()) / "__lora_core" / name


def add_route(method: str, path: str, handler: Callable[..., Any]) -> None:
    """Add a route to the host's server, if there is one and this path is still free: a second one would stop it."""
    server = getattr(PromptServer, "instance", None)
    if server is not None and all(getattr(route, "path", None) != path for route in server.routes):
        server.routes.route(method, path)(handler)


def add_gate(gate: Callable[..., Any]) -> None:
    """Let `gate`, a middleware, see requests before the host's own look at them, if there is a server."""
    app = getattr(getattr(PromptServer, "instance", None), "app", None)
    if app is not None and not app.frozen:
        app.middlewares.insert(0, gate)


def ask_cancelled() -> None:
    """Raise the host's own exception if the user has cancelled the prompt that runs."""
    comfy.model_management.throw_exception_if_processing_interrupted()


def memory_bytes() -> int:
    """Return how much memory the machine has."""
    return int(comfy.model_management.total_ram * 2**20)


def progress(*phases: str) -> Callable[[int, int], None]:
    """Return an `on_step(done, total)` that moves the running node's bar and stops when the user cancels.

    The page is told what the node is at: reading, then the first of `phases`, and once all steps are done the last.
    """
    bar = comfy.utils.ProgressBar(1)
    phase = "reading"
    _tell_phase(phase)

    def on_step(done: int, total: int) -> None:
        nonlocal phase
        ask_cancelled()
        bar.update_absolute(done, total)
        now = phases[-1 if done >= total else 0] if phases else phase
        if now != phase:
            phase = now
            _tell_phase(phase)

    return on_step


def _tell_phase(phase: str) -> None:
    """Tell the page that queued the prompt what the node that is running is at."""
    server = getattr(PromptServer, "instance", None)
    if server is not None and server.client_id is not None:
        server.send_sync("loracore.phase", {"node": server.last_node_id, "phase": phase}, server.client_id)


def _path(folder: str, name: str) -> Path:
    """Return the file of a listed name, which may have gone since."""
    found = folder_paths.get_full_path(folder, name)
    if found is None:
        raise FileFormatError(f"{name}: no longer in the {folder} folder; refresh the list.")
    return Path(found)


def _names(folder: str) -> list[str]:
    return [name.replace(os.sep, "/") for name in folder_paths.get_filename_list(folder)]


def _model(name: str) -> tuple[str, str]:
    """Return the folder and the name inside it; a checkpoint of exactly this name comes first."""
    found = resolve(name, model_names(), f"the {', '.join(MODEL_FOLDERS)} folders")
    checkpoints, *others = MODEL_FOLDERS
    head, _, rest = found.partition("/")
    is_other = head in others and rest and folder_paths.get_full_path(checkpoints, found) is None
    return (head, rest) if is_other else (checkpoints, found)


def _new_path(folder: str, filename_prefix: str) -> Path:
    roots = [Path(root) for root in folder_paths.get_folder_paths(folder)]
    return new_path(sorted(roots, key=lambda root: root.name in LEGACY_ROOTS), filename_prefix)
