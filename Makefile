# One command each: `make test` and `make demo` set everything up on first use.
PYTHON ?= python3
# Plain `torch` brings gigabytes of GPU libraries to a machine without a GPU; the CI wants the CPU build of this version.
TORCH ?= torch==2.13.0
READY := .venv/.lora-core-ready

.PHONY: demo test check outlines clean

demo: $(READY)
	.venv/bin/python -m lora_core demo build/demo

# ends with one line per tier: ran, with counts, or skipped, and why; see CONTRIBUTING.md
test: $(READY)
	.venv/bin/pytest $(PYTEST_ARGS)

check: $(READY)
	.venv/bin/ruff check
	.venv/bin/pyright

# after a change of tests/data/checkpoints
outlines: $(READY)
	.venv/bin/python -m tests.outlines

# The second install names torch again, so that no other package can replace it.
$(READY): requirements-dev.txt pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet "$(TORCH)"
	.venv/bin/python -m pip install --quiet "$(TORCH)" -r requirements-dev.txt -e .
	touch $@

clean:
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path "./.venv/*" -prune -exec rm -rf {} +
