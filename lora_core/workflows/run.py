"""Run a workflow file's LoRA Core nodes without ComfyUI: all but Load LoRA, which needs a loaded model."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import LoraError, WorkflowError
from ..library.words import words_of_stack
from ..operations import NODE_OPERATIONS, NODES
from ..options import LOAD, STACK, Node
from ..parallel.progress import OnStep
from ..report import Report
from ..shortage import tells_shortages
from ..stack.rows import join_stacks, lora_text, parse_rows, stack_of
from .files import WorkflowFiles
from .graph import GraphNode, Link, graph_of, name_of, prompt_of, read_json
from .importing import convert_workflow, counted_nodes, has_peers, lora_names
from .perform import perform


@tells_shortages
def run(
    workflow: str | os.PathLike[str],
    *,
    models: str | os.PathLike[str] = "models",
    output: str | os.PathLike[str] | None = None,
    on_step: OnStep | None = None,
) -> list[Report]:
    """Run the LoRA Core output nodes of a workflow file, in either format, and return their reports in order.

    `models` is a folder like ComfyUI's: checkpoints, diffusion_models, text_encoders, loras, and more of each that an
    extra_model_paths.yaml names. Results go to `output`, or where the nodes would put them inside `models`; `workflow`
    may be "-", standard input. Raises WorkflowError naming a node that needs ComfyUI.
    """
    graph, notes = _read(Path(workflow), models)
    outputs = [node for node in graph.values() if _is_output(node)]
    live = [_named(node) for node in graph.values() if node.type == LOAD.id]
    if not outputs:
        needs = f"; {live[0]} needs a model loaded in ComfyUI, so run it there" if live else ""
        what = "no Merge to Checkpoint or Extract LoRA node that can run without ComfyUI"
        raise WorkflowError(f"{name_of(Path(workflow))}: {what}{needs}.")
    runner = _Runner(graph, WorkflowFiles(Path(models), None if output is None else Path(output)), on_step)
    runner.finish(outputs)
    for name in live:
        runner.reports[-1].warnings.append(f"{name} was not run: it needs a model loaded in ComfyUI.")
    runner.reports[0].notes[:0] = notes
    return runner.reports


def _read(workflow: Path, models: str | os.PathLike[str]) -> tuple[dict[str, GraphNode], list[str]]:
    """Return the nodes by id, those of other packs as ours, and what was converted."""
    name = name_of(workflow)
    prompt, notes = prompt_of(read_json(workflow), name), list[str]()
    if has_peers(prompt):
        result = convert_workflow(prompt, names=lora_names(models))
        notes = [f"{name}: {counted_nodes(result.converted)} of other packs, to read as ours", *result.notes]
        prompt = result.workflow
    return graph_of(prompt, name), notes


class _Runner:
    """Evaluates nodes on demand, each once."""

    def __init__(self, graph: dict[str, GraphNode], files: WorkflowFiles, on_step: OnStep | None) -> None:
        self._graph, self._files, self._on_step = graph, files, on_step
        self._results: dict[str, tuple[Any, ...]] = {}
        self._running: set[str] = set()
        self.reports: list[Report] = []

    def finish(self, nodes: Iterable[GraphNode]) -> None:
        """Evaluate all that can be, whatever fails of it; then raise the first error, with what was written."""
        errors: list[LoraError] = []
        for node in nodes:
            try:
                self.results(node.id)
            except LoraError as error:
                errors.append(error)
        if errors:
            others = [f"; {text}" for text in dict.fromkeys(map(str, errors[1:])) if text != str(errors[0])]
            done = [str(output["name"]) for report in self.reports for output in report.outputs]
            written = f" Written all the same: {', '.join(done)}." if done else ""
            raise type(errors[0])(f"{errors[0]}{''.join(others)}{written}") from errors[0]

    def results(self, node_id: str) -> tuple[Any, ...]:
        """Return what the node puts out, one item for each slot."""
        if node_id not in self._results:
            node = self._graph.get(node_id)
            if node is None:
                raise WorkflowError(f"node {node_id}: is wired to another, but missing or muted.")
            if node.type != STACK.id and node.type not in NODE_OPERATIONS:
                raise WorkflowError(f"{_named(node)} needs ComfyUI: only LoRA Core's own nodes run without it.")
            if node_id in self._running:
                raise WorkflowError(f"{_named(node)}: is wired to itself.")
            self._running.add(node_id)
            try:
                self._results[node_id] = self._stack(node) if node.type == STACK.id else self._operation(node)
            except LoraError as error:
                if not isinstance(error, WorkflowError):
                    first, *more = str(error).split("\n")
                    raise type(error)(f"{_named(node)}: {first}", *more) from error
                raise
            finally:
                self._running.discard(node_id)
        return self._results[node_id]

    def _stack(self, node: GraphNode) -> tuple[Any, ...]:
        inputs = self._inputs(node, STACK)
        entries = self._files.located(join_stacks(inputs.get("lora_stack"), stack_of(parse_rows(inputs.get("rows")))))
        return entries, lora_text(entries), words_of_stack(entries)

    def _operation(self, node: GraphNode) -> tuple[Any, ...]:
        declared = NODES[node.type]
        done = perform(declared, self._inputs(node, declared), self._files, on_step=self._on_step)
        self.reports.append(done.report)
        return done.texts

    def _inputs(self, node: GraphNode, declared: Node) -> dict[str, Any]:
        """Return the declared inputs that are wired or set, by name."""
        given = {item.name: node.inputs[item.name] for item in declared.inputs if item.name in node.inputs}
        return {
            name: self._wired(node, name, value) if isinstance(value, Link) else value for name, value in given.items()
        }

    def _wired(self, node: GraphNode, name: str, link: Link) -> Any:
        outputs = self.results(link.node)
        if not 0 <= link.slot < len(outputs):
            where = f"{_named(node)}: {name} is wired to output {link.slot} of node {link.node}"
            raise WorkflowError(f"{where}, which has {len(outputs)}; a damaged workflow file.")
        return outputs[link.slot]


def _is_output(node: GraphNode) -> bool:
    return node.type in NODES and NODES[node.type].is_output


def _named(node: GraphNode) -> str:
    declared = NODES.get(node.type)
    return f"node {node.id} ({declared.display_name if declared else node.type})"
