"""What ComfyUI's own tables say of a model: names that it accepts besides, and the text encoders that go with it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from lora_core.arch.base import Arch, Rename
from lora_core.naming.detection import FoundArch, detect
from lora_core.naming.keymap import KeyMap
from tests import manifests
from tests.keylist.leaves import PARAMS, block_lists, template

_INSIDE = "diffusion_model."


def rows(name: str, arch: Arch) -> Iterator[Rename]:
    """Yield rows to be read for names that ComfyUI sends to a whole module and that `arch` has no place for."""
    if name not in manifests.alias_archs():
        return
    shapes, aliases = manifests.target_shapes(name), manifests.aliases(name)
    keymap = KeyMap((shapes, [FoundArch(arch, None, _INSIDE)]))
    known = block_lists({key.removeprefix(_INSIDE): shape for key, shape in shapes.items()})
    accepted = {alias.removeprefix(_INSIDE): () for alias in aliases if alias.startswith(_INSIDE)}
    lists = known | block_lists({f"{alias}.weight": shape for alias, shape in accepted.items()})
    for alias in accepted:
        target = aliases[_INSIDE + alias]
        if target.span or target.function or target.key not in shapes or keymap.find(_INSIDE + alias):
            continue
        module, _, last = target.key.removeprefix(_INSIDE).rpartition(".")
        if module and last in PARAMS:
            yield Rename(template(module, lists), template(alias, lists), read_only=True)


def text_encoders(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the encoders that ComfyUI has with a model, with the numbers that it accepts for them."""
    found: dict[str, tuple[str, ...]] = {}
    for table in (f"te_{name}" for name in names if f"te_{name}" in manifests.alias_archs()):
        aliases = manifests.aliases(table)
        for encoder in detect(manifests.target_shapes(table)):
            own = [name for name, target in aliases.items() if target.key.startswith(encoder.prefix)]
            numbers = dict.fromkeys(number for name in own for number in re.findall(r"^lora_(te\d?)_", name))
            found[encoder.id] = tuple(numbers)
    return found
