"""Two prompts of one workflow, the page's and ours, node by node: what differs, and which differences are known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Prompt = Mapping[str, Mapping[str, Any]]


@dataclass
class Comparison:
    """How much was compared; what differs without a reason is in `wrong`, as text."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def add(self, name: str, workflow: Mapping[str, Any], page: Prompt, ours: Prompt) -> None:
        """Compare two prompts. Explained are: nodes that the page doesn't know, whose type and values it leaves out;
        values of other packs' widgets, which only the page can name; ids that the page gives anew to nodes of several
        subgraphs that have the same; setters and getters of packs whose scripts aren't there, which the page keeps.
        """
        self.counts["workflows"] += 1
        renamed = renumbered(workflow)
        known = {_renamed(key, renamed, workflow): node for key, node in ours.items()}
        unknown = {key for key in set(page) - set(known) if not page[key].get("class_type")}
        self.counts["setters and getters unknown to the page"] += len(unknown)
        self.wrong += [
            f"{name}: node {key} is in one prompt alone" for key in sorted((set(page) ^ set(known)) - unknown)
        ]
        for key in set(page) & set(known):
            for text in self._node(page[key], known[key], renamed, workflow, unknown):
                self.wrong.append(f"{name}: node {key} ({known[key]['class_type']}): {text}")

    def _node(
        self, page: Any, ours: Any, renamed: Any, workflow: Mapping[str, Any], unknown: set[str]
    ) -> Iterator[str]:
        self.counts["nodes"] += 1
        is_known = bool(page.get("class_type"))
        self.counts["nodes unknown to the page"] += not is_known
        if is_known and page["class_type"] != ours["class_type"]:
            yield f"its type is {page['class_type']}"
        for name in page["inputs"].keys() | ours["inputs"].keys():
            theirs, own = page["inputs"].get(name, _NOTHING), ours["inputs"].get(name, _NOTHING)
            if is_link(own):
                own = [_renamed(own[0], renamed, workflow), own[1]]
            if is_link(theirs) or is_link(own):
                self.counts["wires"] += 1
                if theirs != own and not (is_link(theirs) and theirs[0] in unknown):
                    yield f"{name} is {theirs} for the page, {own} for us"
            elif is_known and own is not _NOTHING:
                self.counts["values"] += 1
                if theirs != own and not (theirs is _NOTHING and "widgets_values" not in ours and name in _PAGES_OWN):
                    yield f"{name} is {theirs!r:.60} for the page, {own!r:.60} for us"
            else:
                self.counts["values that only the page can name"] += 1


_NOTHING = "<nothing>"
_PAGES_OWN = ("control_after_generate", "upload", "fixed")  # widgets that no prompt has


def is_link(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2


def renumbered(workflow: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """Return the new ids that the page gives where nodes of subgraphs have ids of others: (subgraph, id) -> id."""
    levels = (workflow.get("definitions") or {}).get("subgraphs") or []
    used = {node["id"] for node in workflow["nodes"] if isinstance(node["id"], int)}
    last = max([workflow.get("last_node_id") or 0, *used])
    found: dict[tuple[str, str], str] = {}
    for level in levels:
        for node in level["nodes"]:
            if node["id"] in used:
                last += 1
                while last in used:
                    last += 1
                found[level["id"], str(node["id"])] = str(last)
                used.add(last)
            else:
                used.add(node["id"])
                last = max(last, node["id"])
    return found


def _renamed(path: str, renamed: Mapping[tuple[str, str], str], workflow: Mapping[str, Any]) -> str:
    """Return a node's id in a prompt, a path through subgraphs, with the ids that the page has given anew."""
    levels = {level["id"]: level for level in (workflow.get("definitions") or {}).get("subgraphs") or []}
    level_id, level, out = "", workflow, list[str]()
    for part in path.split(":"):
        out.append(renamed.get((level_id, part), part))
        node = next((one for one in level["nodes"] if str(one["id"]) == part), {})
        level_id = str(node.get("type"))
        level = levels.get(level_id, {"nodes": []})
    return ":".join(out)
