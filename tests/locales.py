"""ComfyUI's texts of our nodes, `locales/LANGUAGE/nodeDefs.json`; `python -m tests.locales` after a change of options.

English is written from lora_core.options. The other languages get an empty text for what is new or says something else
now, to be filled by hand, and lose what is gone. ComfyUI compiles these texts as message formats, where some signs have
a meaning; see `escaped`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lora_core.operations import NODES

FOLDER = Path(__file__).resolve().parents[1] / "locales"
LANGUAGES = ("zh", "ja")
Texts = dict[tuple[str, ...], str]  # by their places
FILES = ("main", "nodeDefs", "settings", "commands")


def escaped(text: str) -> str:
    """Return a text as a message of vue-i18n that shows it: {, }, @, | and $ are written as literals."""
    return re.sub(r"[{}@|$]", lambda found: f"{{'{found[0]}'}}", text)


def node_texts(translate: Callable[[tuple[str, ...], str], str]) -> dict[str, Any]:
    """Return the texts of all nodes; `translate` gets the place of a text and its English."""

    def text(*place: str, english: str) -> str:
        return escaped(translate(place, english))

    def slots(node: str, side: str, items: Any) -> dict[str, Any]:
        keys = [item.name if side == "inputs" else str(index) for index, item in enumerate(items)]
        return {
            key: {
                "name": text(node, side, key, "name", english=item.name),
                "tooltip": text(node, side, key, "tooltip", english=item.help),
            }
            for key, item in zip(keys, items, strict=True)
        }

    return {
        node.id: {
            "display_name": text(node.id, "display_name", english=node.display_name),
            "description": text(node.id, "description", english=node.description),
            "inputs": slots(node.id, "inputs", node.inputs),
            "outputs": slots(node.id, "outputs", node.outputs),
        }
        for node in NODES.values()
    }


def read(language: str, file: str) -> dict[str, Any]:
    return json.loads((FOLDER / language / f"{file}.json").read_text(encoding="utf-8"))


def write(language: str, file: str, texts: dict[str, Any]) -> None:
    path = FOLDER / language / f"{file}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(texts, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def flat(texts: dict[str, Any], place: tuple[str, ...] = ()) -> Texts:
    """Return every text by its place."""
    found: Texts = {}
    for key, value in texts.items():
        found |= flat(value, (*place, key)) if isinstance(value, dict) else {(*place, key): value}
    return found


def translated(new: Texts, old: Texts, known: Texts) -> Texts:
    """Return the texts of a language for `new` English; `known` are those for the `old`.

    A text keeps its translation while its English is the same, or has that of another text with this English, or none.
    """
    by_english = {old[place]: text for place, text in known.items() if text and place in old}
    return {
        place: known[place] if old.get(place) == english and place in known else by_english.get(english, "")
        for place, english in new.items()
    }


def _main() -> None:
    old = flat(read("en", "nodeDefs"))
    write("en", "nodeDefs", node_texts(lambda _, english: english))
    new = flat(read("en", "nodeDefs"))
    for language in LANGUAGES:
        texts = translated(new, old, flat(read(language, "nodeDefs")))
        write(language, "nodeDefs", node_texts(lambda place, _, texts=texts: _unescaped(texts[place])))


def _unescaped(text: str) -> str:
    return re.sub(r"\{'(.)'\}", r"\1", text)


if __name__ == "__main__":
    _main()
