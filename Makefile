# Everything happens in one virtual environment, .venv. A stamp file in it says
# that a part is installed, so that the second run of a target starts at once.

VENV ?= .venv
BIN := $(VENV)/bin
# The interpreter that makes .venv: the first that runs (a pyenv shim may not),
# has venv, and for which TensorFlow has a build. Pins are tested on 3.11 first.
PYTHON ?= $(shell for python in python3 python3.11 python3.12 python3.13; do \
	$$python -c 'import sys, ensurepip; \
	sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& echo $$python && break; done)

# make demo runs on this backend, tests and make bench on each of those.
KERAS_BACKEND ?= tensorflow
BACKENDS ?= tensorflow jax torch
UNKNOWN := $(filter-out tensorflow jax torch,$(KERAS_BACKEND) $(BACKENDS))
$(if $(UNKNOWN),$(error no backend $(UNKNOWN): take tensorflow, jax or torch))
# Passed on: make demo ARGS="--seeds 1", make test ARGS="-k mimo".
ARGS ?=

INSTALL := $(BIN)/python -m pip install -qq -c requirements-test.txt
# A SavedModel is served by TensorFlow, whatever trained it.
BACKEND_STAMPS = $(patsubst %,$(VENV)/.backend-%,$(sort tensorflow $(BACKENDS)))
# PyTorch cannot write one, so its demo does without.
DEMO_STAMPS = $(patsubst %,$(VENV)/.backend-%,$(sort $(KERAS_BACKEND) \
	$(if $(filter torch,$(KERAS_BACKEND)),,tensorflow)))

export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: help demo test test-all mutate lint format types bench bench-data docs \
	notebooks site check-site dist check-dist install clean
# Two pip runs must not meet in one environment.
.NOTPARALLEL:
# The stamps of the backends are made by a pattern: keep them.
.SECONDARY:

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) \
		| awk -F ':.*## ' '{printf "make %-10s %s\n", $$1, $$2}'

demo: $(VENV)/.examples $(DEMO_STAMPS) ## run the quick start (KERAS_BACKEND=jax, ARGS="--seeds 1")
	KERAS_BACKEND=$(KERAS_BACKEND) $(BIN)/python examples/quickstart.py $(ARGS)

CHOSEN_quick := not slow and not hub
CHOSEN_short := not (slow and long) and not hub
CHOSEN_long := slow and long and not hub
# Most tests are many small programs, which take longer to optimise than to run.
# Those that train for long are compiled as users have it.
XLA_OF_SHORT := --xla_backend_optimization_level=0 \
	--xla_llvm_disable_expensive_passes=true

# Runs the tests of the parts $(1), and prints the time of each backend. A part
# in which ARGS chooses nothing (pytest returns 5) is no failure.
define run_tests
failed=; times=; for backend in $(BACKENDS); do \
	start=$$(date +%s); \
	for part in $(1); do \
		echo "== $$part tests on $$backend"; \
		flags="$(XLA_OF_SHORT) $$XLA_FLAGS"; \
		case $$part in \
			quick) chosen="$(CHOSEN_quick)";; \
			short) chosen="$(CHOSEN_short)";; \
			long) chosen="$(CHOSEN_long)"; flags=$$XLA_FLAGS;; \
		esac; \
		KERAS_BACKEND=$$backend OMP_NUM_THREADS=1 XLA_FLAGS="$$flags" \
			$(BIN)/python -m pytest -q --numprocesses auto --maxprocesses 4 \
			--dist worksteal -m "$$chosen" $(ARGS) \
			|| [ $$? -eq 5 -a -n "$(strip $(ARGS))" ] \
			|| failed="$$failed $$backend"; \
	done; \
	times="$$times $$backend $$(( $$(date +%s) - start )) s"; \
done; \
echo "time of the tests:$$times"
endef
verdict = if [ -n "$$failed" ]; then echo "tests failed on:$$failed"; exit 1; fi

test: install ## run the quick tests on each of BACKENDS (BACKENDS=jax, ARGS="-k mimo")
	@$(call run_tests,quick); \
	echo "these were the quick tests: make test-all runs the slow ones too"; \
	$(verdict)

test-all: install ## run all tests on each of BACKENDS
	@$(call run_tests,short long); $(verdict)

mutate: install ## break the package in many places, and see the quick tests fail
	$(BIN)/python tests/mutations.py --backends $(BACKENDS) $(ARGS)

lint: $(VENV)/.lint ## check style and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(VENV)/.lint ## repair style and format where that is safe
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(VENV)/.types ## check types: the package, and how its public API is used
	$(BIN)/mypy

bench: $(VENV)/.test $(VENV)/.examples $(BACKEND_STAMPS) ## measure the cost of a step on each of BACKENDS, and beside TorchJD
	@set -e; for backend in $(BACKENDS); do \
		echo "== step cost on $$backend"; \
		KERAS_BACKEND=$$backend $(BIN)/python benchmarks/step_cost.py $(ARGS); \
	done
ifneq ($(filter torch,$(BACKENDS)),)
	@echo "== beside TorchJD"
	@KERAS_BACKEND=torch $(BIN)/python benchmarks/beside_torchjd.py
endif

bench-data: $(VENV)/.created ## fetch the open data sets of the benchmarks (needs npm)
	$(BIN)/python benchmarks/fetch_data.py

docs: $(VENV)/.examples $(VENV)/.backend-$(KERAS_BACKEND) ## write the tables of docs/combiners.md (ARGS=--check)
	KERAS_BACKEND=$(KERAS_BACKEND) $(BIN)/python docs/generate_combiners.py $(ARGS)

notebooks: $(VENV)/.notebooks $(VENV)/.backend-tensorflow bench-data ## run the examples as notebooks, for the site (ARGS="--only quickstart")
	KERAS_BACKEND=tensorflow $(BIN)/python docs/make_notebooks.py $(ARGS)

site: $(VENV)/.docs ## build the site: site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build $(ARGS)

check-site: site ## look at every page of it in a browser, and keep pictures
	$(BIN)/python docs/check_site.py

dist: $(VENV)/.dist ## build a wheel, dist/, and check what is in it
	rm -rf build dist
	$(BIN)/python -m build --wheel
	$(BIN)/python tests/release/check_wheel.py dist/*.whl

check-dist: dist ## install it beside each of BACKENDS alone, and train there
	@set -e; for backend in $(BACKENDS); do \
		$(BIN)/python tests/release/install_alone.py dist/*.whl \
			--backend $$backend; \
	done

install: $(VENV)/.test $(BACKEND_STAMPS) ## install what the tests need, and no more

clean: ## remove .venv and all that was built or cached
	rm -rf $(VENV) build dist site site_screenshots notebooks *.egg-info served_model \
		quickstart_output step_cost_*.json long_tail_output \
		image_text_output image_sound_output crema_d_output multimodal_runs \
		long_tail_results.json benchmarks/data
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.created:
	@[ -n "$(PYTHON)" ] || { \
		echo "no Python 3.11, 3.12 or 3.13 with venv found: set PYTHON"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.lint: requirements-test.txt | $(VENV)/.created
	$(INSTALL) ruff
	@touch $@

$(VENV)/.types: requirements-test.txt | $(VENV)/.created
	$(INSTALL) mypy
	@touch $@

$(VENV)/.docs: pyproject.toml requirements-test.txt | $(VENV)/.created
	$(INSTALL) -e '.[docs]'
	@touch $@

$(VENV)/.dist: requirements-test.txt | $(VENV)/.created
	$(INSTALL) build 'readme_renderer[md]'
	@touch $@

$(VENV)/.examples: pyproject.toml requirements-test.txt | $(VENV)/.created
	$(INSTALL) -e '.[examples]'
	@touch $@

$(VENV)/.notebooks: pyproject.toml requirements-test.txt | $(VENV)/.created
	$(INSTALL) -e '.[notebooks]'
	@touch $@

$(VENV)/.test: pyproject.toml requirements-test.txt | $(VENV)/.created
	$(INSTALL) -e '.[test]'
	@touch $@

$(VENV)/.backend-%: requirements-test.txt | $(VENV)/.created
	@grep -E '^$*(-cpu)?==' requirements-test.txt > $(VENV)/$*.txt
	@echo "installing $*, which can take a few minutes"
	$(INSTALL) -r $(VENV)/$*.txt
	@touch $@
