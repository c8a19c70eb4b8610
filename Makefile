# The front door. `make help` lists what there is.
PRESET ?= release
BUILD  := build/$(PRESET)
JOBS   ?= $(shell nproc)
PREFIX ?= /usr/local

.DEFAULT_GOAL := help
.PHONY: help setup build models examples test unit e2e soak sdk asan tsan tidy format check-format layers fuzz bench demo install clean

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 16

setup: ## install what a fresh Debian 12 machine lacks (idempotent)
	@scripts/setup.sh

build: setup ## build everything: build/release/bin/mayfly, mayfly-runner
	@[ -f $(BUILD)/build.ninja ] || cmake --preset $(PRESET) >/dev/null
	@cmake --build $(BUILD) -j $(JOBS)

models: setup ## generate the models that demo and tests use (cached in build/models)
	@.deps/venv/bin/python scripts/make_models.py build/models --only test

examples: setup ## make what the examples deploy, from packages (cached in build/examples)
	@.deps/sdk-venv/bin/python examples/prepare.py

demo: setup ## data, a training to a goal, predictions, down to zero and back, a better version, the bill
	@[ -f $(BUILD)/build.ninja ] || cmake --preset $(PRESET) >/dev/null
	@cmake --build $(BUILD) -j $(JOBS) --target mayfly mayfly-runner
	@.deps/venv/bin/python scripts/make_models.py build/models --only demo
	@.deps/venv/bin/python scripts/make_datasets.py build/datasets diamonds.csv
	@PRESET=$(PRESET) scripts/demo.sh

test: unit e2e sdk layers ## unit tests, end-to-end tests, tests of the Python SDK, layer check

# The threads of XGBoost, Faiss and ONNX Runtime are theirs: ThreadSanitizer sees no lock of libraries that were
# built without it, so what trains with several is left out of it.
unit: build models ## unit tests and the replay of every fuzz corpus; one that fails is run once more
	@ctest --test-dir $(BUILD) --output-on-failure -L unit --repeat until-pass:2 $(if $(filter tsan,$(PRESET)),-E "^runner_train$$")

e2e: build models ## end-to-end tests: a real node, the official Triton client
	@PRESET=$(PRESET) .deps/venv/bin/python tests/e2e/run.py

soak: build ## tests of many minutes: a training of five minutes that is killed 20 times, one of four times its memory
	@PRESET=$(PRESET) .deps/venv/bin/python tests/e2e/run.py --soak

sdk: build models examples ## tests of the Python SDK and the examples against a real node
	@PRESET=$(PRESET) .deps/sdk-venv/bin/python sdk/python/tests/run.py

asan: ## unit tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@$(MAKE) --no-print-directory unit PRESET=asan

tsan: ## unit tests under ThreadSanitizer
	@$(MAKE) --no-print-directory unit PRESET=tsan

tidy: setup ## clang-tidy over every source of ours
	@.deps/venv/bin/python scripts/tidy.py

format: ## format every source of ours
	@git ls-files '*.cc' '*.h' | xargs clang-format-19 -i

check-format: setup
	@git ls-files '*.cc' '*.h' | xargs clang-format-19 --dry-run --Werror

layers: setup ## includes go one way, from folder to folder above it, and each header compiles alone
	@.deps/venv/bin/python scripts/check_layers.py
	@[ -f $(BUILD)/build.ninja ] || cmake --preset $(PRESET) >/dev/null
	@cmake --build $(BUILD) -j $(JOBS) --target mayfly_headers

fuzz: setup ## run every fuzz target for SECONDS (default 60) each
	@scripts/fuzz.sh $(or $(SECONDS_EACH),60)

bench: ## print the benchmark table; ONLY="start cold" selects, JSON=FILE records
	@scripts/setup.sh --bench
	@$(MAKE) --no-print-directory build
	@.deps/venv/bin/python bench/run.py --bin $(BUILD)/bin $(if $(ONLY),--only "$(ONLY)") $(if $(JSON),--json $(JSON))

install: build ## copy a working tree under PREFIX (default /usr/local)
	@cmake --install $(BUILD) --prefix $(PREFIX)

clean: ## remove every build
	@rm -rf build
