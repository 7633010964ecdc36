"""Run a workflow file's LoRA Core nodes without ComfyUI: all but Load LoRA, which needs a loaded model."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any

from ..errors import LoraError, WorkflowError, about
from ..operations import NODE_OPERATIONS, NODES
from ..options import LOAD, STACK
from ..parallel.progress import OnStep
from ..report import Report
from ..shortage import tells_shortages
from ..stack.rows import join_stacks, parse_rows, stack_of
from ..text import some_names
from .files import WorkflowFiles
from .graph import GraphNode, Link, graph_of, name_of, prompt_of, read_json
from .importing import convert_workflow, counted_nodes, has_peers, lora_names
from .perform import perform
from .stacks import StackOutput

_SHOWN = 4  # errors beside the first


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
        self._errors: dict[str, LoraError] = {}  # of what could not be evaluated
        self.reports: list[Report] = []

    def finish(self, nodes: Iterable[GraphNode]) -> None:
        """Evaluate all that can be, whatever fails of it; then raise the first error, with what was written."""
        errors: list[LoraError] = []
        for node in nodes:
            self._evaluate(node.id)
            errors += [self._errors[node.id]] if node.id in self._errors else []
        if errors:
            others = [text for text in dict.fromkeys(map(str, errors)) if text != str(errors[0])]
            more = f"; {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
            done = [str(output["name"]) for report in self.reports for output in report.outputs]
            written = f" Written all the same: {some_names(done)}." if done else ""
            raise about(errors[0], after="".join(f"; {text}" for text in others[:_SHOWN]) + more + written)

    def _evaluate(self, node_id: str) -> None:
        """Find what a node puts out, one item for each slot, or why it can't be told; what it needs comes first."""
        waiting: dict[str, None] = {node_id: None}  # each needs the one after it
        while waiting:
            key = next(reversed(waiting))
            try:
                needed = self._needed(key, waiting)
                if needed is None:
                    self._results[key] = self._put_out(self._graph[key])
            except LoraError as error:
                self._errors[key], needed = error, None
            if needed is None:
                del waiting[key]
            else:
                waiting[needed] = None

    def _needed(self, node_id: str, waiting: Container[str]) -> str | None:
        """Return the first node that is wired to this one and was not evaluated yet. Raises for one that failed."""
        node = self._graph.get(node_id)
        if node is None:
            raise WorkflowError(f"node {node_id}: is wired to another, but missing or muted.")
        if node.type != STACK.id and node.type not in NODE_OPERATIONS:
            raise WorkflowError(f"{_named(node)} needs ComfyUI: only LoRA Core's own nodes run without it.")
        for value in self._given(node).values():
            if not isinstance(value, Link) or value.node in self._results:
                continue
            if value.node in self._errors:
                raise self._errors[value.node]
            if value.node in waiting:
                raise WorkflowError(f"{_named(self._graph[value.node])}: is wired to itself.")
            return value.node
        return None

    def _put_out(self, node: GraphNode) -> tuple[Any, ...]:
        try:
            return self._stack(node) if node.type == STACK.id else self._operation(node)
        except WorkflowError:
            raise
        except LoraError as error:
            raise about(error, f"{_named(node)}: ") from error

    def _stack(self, node: GraphNode) -> tuple[Any, ...]:
        inputs = self._inputs(node)
        upstream = inputs.get("lora_stack")
        if upstream is not None and not isinstance(upstream, StackOutput):
            upstream = StackOutput(self._files.located(join_stacks(upstream, ())))
        stacked = StackOutput(self._files.located(stack_of(parse_rows(inputs.get("rows")))), upstream)
        return stacked, stacked, stacked

    def _operation(self, node: GraphNode) -> tuple[Any, ...]:
        declared = NODES[node.type]
        done = perform(declared, self._inputs(node), self._files, on_step=self._on_step)
        self.reports.append(done.report)
        return done.texts

    def _inputs(self, node: GraphNode) -> dict[str, Any]:
        """Return the declared inputs that are wired or set, by name."""
        return {
            name: self._wired(node, name, value) if isinstance(value, Link) else value
            for name, value in self._given(node).items()
        }

    def _given(self, node: GraphNode) -> dict[str, Any]:
        return {item.name: node.inputs[item.name] for item in NODES[node.type].inputs if item.name in node.inputs}

    def _wired(self, node: GraphNode, name: str, link: Link) -> Any:
        outputs = self._results[link.node]
        if not 0 <= link.slot < len(outputs):
            where = f"{_named(node)}: {name} is wired to output {link.slot} of node {link.node}"
            raise WorkflowError(f"{where}, which has {len(outputs)}; a damaged workflow file.")
        value = outputs[link.slot]
        if not isinstance(value, StackOutput):
            return value
        if link.slot:
            return value.lora_text if link.slot == 1 else value.trigger_words
        return value if node.type == STACK.id and name == "lora_stack" else value.entries()


def _is_output(node: GraphNode) -> bool:
    return node.type in NODES and NODES[node.type].is_output


def _named(node: GraphNode) -> str:
    declared = NODES.get(node.type)
    return f"node {node.id} ({declared.display_name if declared else node.type})"
