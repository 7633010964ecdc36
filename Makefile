# One command each: `make test` and `make demo` set everything up on first use.
PYTHON ?= python3
# Plain `torch` brings gigabytes of GPU libraries to a machine without a GPU; the CI wants the CPU build of this version.
TORCH ?= torch==2.13.0
READY := .venv/.lora-core-ready
TSC := tests/web/node_modules/.bin/tsc
# How long `make fuzz` takes for all its targets together; the nightly run takes 600 seconds.
FUZZ_SECONDS ?= 60
# The same of `make cost`.
COST_SECONDS ?= 60
# Of tests at most: each takes up to 3 GB of memory.
PROCESSES ?= 4
# The browser tests run on the host's own front end and on this one.
NEWEST_FRONT_END := 1.58.1
FRONT_END_READY := .venv/front-end/.$(NEWEST_FRONT_END)

.PHONY: demo test fuzz cost check types outlines models faults attacks clean

demo: $(READY)
	rm -rf build/demo
	.venv/bin/python -m lora_core demo build/demo

# Ends with one line per tier: ran, with counts, or skipped, and why; see CONTRIBUTING.md. All tests run in several
# processes, a file at a time; what PYTEST_ARGS names runs in one, which starts sooner.
test: $(READY) $(FRONT_END_READY)
	.venv/bin/pytest $(or $(PYTEST_ARGS),-n auto --maxprocesses $(PROCESSES) --no-loadscope-reorder)

# looks for inputs that break what reads strangers' files; FUZZ_ARGS names targets, or says --keep
fuzz: $(READY)
	.venv/bin/python -m tests.fuzz --seconds $(FUZZ_SECONDS) $(FUZZ_ARGS)

# looks for inputs that cost too much; COST_ARGS names readers
cost: $(READY)
	.venv/bin/python -m tests.fuzz.cost --seconds $(COST_SECONDS) $(COST_ARGS)

check: $(READY)
	.venv/bin/ruff check
	.venv/bin/pyright
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory types; \
	else echo "types of web/: not checked, npm not found on PATH"; fi

# the JavaScript of web/, by its JSDoc types
types: $(TSC)
	$(TSC) --project tests/web/tsconfig.json

# kills, cancels, full disks and power cuts at many points of every write: what was tried, and what survived
faults: $(READY)
	.venv/bin/python -m tests.faults $(FAULTS_ARGS)

# hostile files, texts and prompts at a running ComfyUI: whether it stays awake, and its memory; needs ComfyUI
attacks: $(READY)
	.venv/bin/python -m tests.attacks $(ATTACKS_ARGS)

# after a change of tests/data/checkpoints
outlines: $(READY)
	.venv/bin/python -m tests.outlines

# docs/models.md and the README's summary anew; prints what each trainer's file finds of its model, and what is missing
models: $(READY)
	.venv/bin/python -m tests.modeltable

# The second install names torch again, so that no other package can replace it.
$(READY): requirements-dev.txt pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet "$(TORCH)"
	.venv/bin/python -m pip install --quiet "$(TORCH)" -r requirements-dev.txt -e .
	touch $@

$(TSC): tests/web/package-lock.json tests/web/package.json
	npm ci --prefix tests/web --silent --no-audit --no-fund
	touch $@

$(FRONT_END_READY): $(READY)
	rm -rf .venv/front-end
	.venv/bin/python -m pip install --quiet --no-deps --target .venv/front-end comfyui-frontend-package==$(NEWEST_FRONT_END)
	touch $@

clean:
	rm -rf build dist tests/web/node_modules .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path "./.venv/*" -prune -exec rm -rf {} +
