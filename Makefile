# Every target makes .venv on its first call, with all that it needs; later calls skip what is done.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BUILD := $(BIN)/python romae_nb/_dev/build.py

# one thread each; threads that wait must sleep: where another program holds a core, spinning ones were seen to slow a training step 25 times
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= PASSIVE
export PYTHONWARNINGS ?= ignore::FutureWarning:torch.jit._script
export MPLBACKEND ?= agg

THREADS ?= 2
SEEDS ?= 0 1 2 3 4 5
STUDY := recipes/results/japanese_vowels

.PHONY: help install demo demo-quick bench study test soak docs prepare check export sync nb timm timm-tiny clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

install: $(STAMP) ## .venv with the package and all it needs
$(STAMP): settings.ini setup.py pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	@touch $@

demo: $(STAMP) ## digits read at scattered places: ours beside scikit-learn's best (QUICK=1 for the short form)
	$(BIN)/python -m romae_nb.demo $(if $(QUICK),--quick)

demo-quick: ## the demo in about a minute
	$(MAKE) demo QUICK=1

bench: $(STAMP) ## speed and memory beside timm, and beside the reference with REFERENCE=its checkout (DEVICE=cuda, QUICK=1, THREADS=2)
	OMP_NUM_THREADS=$(THREADS) $(BIN)/python -m benchmarks --threads $(THREADS) --device $(or $(DEVICE),cpu) \
		$(if $(REFERENCE),--reference '$(abspath $(REFERENCE))') $(if $(QUICK),--quick) $(BENCH)

test: $(STAMP) ## the tests, on two processes
	$(BIN)/python -m pytest -n $(or $(WORKERS),2) --dist worksteal

study: $(STAMP) ## JapaneseVowels with steps lost: ours, from scratch, REFERENCE=its checkout, settings chosen on validation parts (hours)
	$(BIN)/python recipes/japanese_vowels.py --seeds $(SEEDS) --processes 2 --arms ours scratch $(if $(REFERENCE),reference reference-carried --reference '$(abspath $(REFERENCE))')
	$(BIN)/python recipes/japanese_vowels.py --seeds $(SEEDS) --processes 2 --choose $(if $(REFERENCE),--reference '$(abspath $(REFERENCE))')
	mkdir -p $(STUDY)
	cp reports/japanese_vowels/results.json reports/japanese_vowels/choices.json $(STUDY)
	cp reports/japanese_vowels/chosen/results.json $(STUDY)/chosen.json

soak: $(STAMP) ## kill training 20 times at random moments, on one process and on two, and compare with a run left alone (half an hour)
	KILLS=20 COMMANDS=1 $(BIN)/python -m pytest -s tests/system/test_resume.py

docs: $(STAMP) ## the site, in _docs/html
	$(BIN)/python -m sphinx -q -W --keep-going -E nbs _docs/html
	@echo "_docs/html/index.html"

prepare: $(STAMP) ## all that goes before a commit: run notebooks, clean, export, check, test
	$(BUILD) export
	printf '%s\n' nbs/*.ipynb | xargs -P 2 -I{} $(BIN)/nbdev-test {} --save   # a process each: 05 registers its models anew
	$(BIN)/nbdev-clean
	$(BUILD) export
	$(BUILD) check
	$(BIN)/python -m pytest

check: $(STAMP) ## fail if notebooks, package, tests and README are out of step
	$(BUILD) check

export: $(STAMP) ## notebooks to package, tests, README
	$(BUILD) export

sync: $(STAMP) ## notebooks <-> scratch/*.py, the newer wins
	$(BIN)/jupytext --quiet --sync $(sort $(wildcard nbs/*.ipynb scratch/*.py))

nb: $(STAMP) ## one notebook (NB=01_rope): sync, export, run and keep outputs, clean, export, sync
	$(BIN)/jupytext --quiet --sync $(or $(wildcard scratch/$(NB).py),nbs/$(NB).ipynb)
	$(BUILD) export
	$(BIN)/nbdev-test nbs/$(NB).ipynb --save
	$(BIN)/nbdev-clean --fname nbs/$(NB).ipynb
	$(BUILD) export
	$(BIN)/jupytext --quiet --sync nbs/$(NB).ipynb

timm: $(STAMP) ## timm's own tests on every model that fits
	$(BIN)/python tests/system/timm_suite/run.py 'romae_*'

timm-tiny: $(STAMP) ## timm's own tests on romae_tiny
	$(BIN)/python tests/system/timm_suite/run.py romae_tiny

clean: ## drop what is built
	rm -rf _docs build dist .pytest_cache .hypothesis
