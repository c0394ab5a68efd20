# make demo | test | lint | bench: each makes its own virtual environment in .venv first.
# A second run needs no network: what has been installed and built is remembered in .venv/.done-*.
# make test-gpu | bench-gpu use the system's Python with what it has, and the network never.
#
#   PYTHON=python3.12   the Python that makes the environment (3.11 or newer)
#   ARGS='...'          handed on to the demo, to pytest or to the benchmarks
#   CONSTRAINTS=/dev/null   lets pip choose newer versions than constraints.txt has
#   CI=true             installs torch too, and lets nothing be left out

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
# Before .venv comes first in PATH: the Python that has torch and CuPy for the GPU.
GPU_PYTHON := $(or $(GPU_PYTHON),$(shell command -v python3))
GPU_SITE := build/gpu-site
RESULTS ?= build/gpu-results.json
COMMIT ?= $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)
CONSTRAINTS ?= constraints.txt
ARGS ?=
VENV := .venv
DONE := $(VENV)/.done
RUN := $(VENV)/bin/python -m
# As many processes as CPUs, whose BLAS would only fight for them.
WORKERS ?= $(shell nproc)
PYTEST = OPENBLAS_NUM_THREADS=1 $(RUN) pytest -n $(WORKERS) --dist worksteal
# The sanitizers' runtime has to be there before Python; Python itself leaks at its end.
EMULATED = FASTGEN_CUDA_MODULE=_emulated PYTHONPATH=$(CURDIR)/build/emulator \
  LD_PRELOAD="$$($${CXX:-c++} -print-file-name=libasan.so) $$($${CXX:-c++} -print-file-name=libstdc++.so)" \
  ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0 UBSAN_OPTIONS=print_stacktrace=1
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

CPP := $(shell find csrc -name '*.cpp' -o -name '*.hpp' -o -name '*.cu' -o -name '*.cuh')
# Kernels take minutes to compile for every kind of GPU: only where there is one, and for that one.
CUDA ?= $(shell nvidia-smi --list-gpus 2>/dev/null | grep -q '^GPU ' && echo ON || echo OFF)
CPP_PRODUCT := $(filter-out csrc/tests/% csrc/emulator/% $(if $(filter OFF,$(CUDA)),csrc/cuda/% csrc/bindings/cuda/%),$(CPP))
ARM := $(shell command -v aarch64-linux-gnu-g++ >/dev/null && command -v qemu-aarch64 >/dev/null && echo yes)

ifeq ($(CI),true)
TEST_NEEDS := $(DONE)-torch
WERROR := -DFASTGEN_WERROR=ON
BUILD_OPTIONS := -Ccmake.define.FASTGEN_WERROR=ON
endif

.PHONY: help demo test test-cpp test-arm test-python test-emulated test-mutants test-nvcc test-gpu lint format bench bench-gpu build clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

demo: build  ## fit generators to real digits and print their metrics
	@$(RUN) fastgen demo $(ARGS)

test: $(TEST_NEEDS) build  ## every test: C++ under sanitizers, C++ for ARM where it can run, Python, GPU kernels on the host
	@$(MAKE) --no-print-directory test-cpp
	$(if $(ARM)$(filter true,$(CI)),$(MAKE) --no-print-directory test-arm)
	$(MAKE) --no-print-directory test-python
	$(MAKE) --no-print-directory test-emulated

test-cpp: $(DONE)-requirements  ## the C++ tests under the address and undefined-behaviour sanitizers
	@$(call cpp_tests,asan)

test-arm: $(DONE)-requirements  ## the C++ tests cross-compiled for 64-bit ARM, run by qemu-user
	@$(if $(ARM),,echo "fastgen: the ARM tests need aarch64-linux-gnu-g++ and qemu-aarch64 (on Debian and Ubuntu: apt-get install g++-aarch64-linux-gnu qemu-user)" >&2; exit 1)
	$(call cpp_tests,arm)

test-python: build  ## pytest alone
	@$(PYTEST) $(ARGS)

test-emulated: build  ## the GPU's kernels and engines on the host emulator, under sanitizers
	@$(call cpp_tests,emulator)
	$(EMULATED) $(PYTEST) tests/device $(ARGS)
	FASTGEN_EMULATOR_DEVICES=2 FASTGEN_EMULATOR_SEED=2 $(EMULATED) $(PYTEST) tests/device -q -k "several_devices or device_argument or device_places"

test-mutants: $(DONE)-requirements  ## bugs planted in the GPU kernels: each has to be caught by a test on the host emulator
	@$(call cpp_build,emulator)
	python csrc/tests/emulator/mutants.py $(ARGS)

test-nvcc: $(DONE)-requirements  ## the GPU kernels compiled by nvcc, where it is: none may spill registers
	@if ! { command -v "$${CUDACXX:-nvcc}" || [ -x /usr/local/cuda/bin/nvcc ]; } > /dev/null; then
	  echo "fastgen: found no nvcc: the GPU kernels were not compiled"
	  exit 0
	fi
	cmake --preset cuda -G Ninja $(WERROR) > $(VENV)/cmake-cuda.log 2>&1 || { cat $(VENV)/cmake-cuda.log; exit 1; }
	cmake --build --preset cuda --clean-first > $(VENV)/nvcc.log 2>&1 || {
	  grep -E -A 8 '(error|Error)' $(VENV)/nvcc.log | head -60 >&2
	  exit 1
	}
	python csrc/cuda/resources.py $(VENV)/nvcc.log > $(VENV)/registers.log
	PYTHONPATH=build/cuda python -c 'import _cuda; print("fastgen: the kernels spill no registers; their module loads, and finds",
	len(_cuda.devices()), "GPUs here")'

test-gpu:  ## the device tests on a GPU, and its sanitizers on the small ones
	@$(call need_gpu)
	$(call gpu_build)
	$(GPU_RUN) -m pytest tests/device tests/test_device_*.py -p no:cacheprovider -q $(ARGS)
	for tool in memcheck racecheck; do
	  if ! command -v compute-sanitizer > /dev/null; then
	    echo "fastgen: $$tool was not run: compute-sanitizer is not installed"
	  elif ! PYTHONPATH=$(CURDIR)/$(GPU_SITE) timeout 120 compute-sanitizer --tool $$tool $(GPU_PYTHON) -P -c \
	    'import numpy, fastgen; fastgen.knn_radii(numpy.eye(9, dtype="f4"), device="cuda")' > build/$$tool-probe.log 2>&1; then
	    echo "fastgen: $$tool was not run: compute-sanitizer does not work here ($$(tail -n 1 build/$$tool-probe.log))"
	  else
	    PYTHONPATH=$(CURDIR)/$(GPU_SITE) compute-sanitizer --tool $$tool --error-exitcode 9 \
	      $(GPU_PYTHON) -P tests/device/smoke.py
	  fi
	done

bench-gpu:  ## the benchmarks on a GPU; the table goes to $(RESULTS) too
	@$(call need_gpu)
	$(call gpu_build)
	$(GPU_RUN) -m pytest benchmarks/gpu --benchmark-only -q --benchmark-columns=median,min,max \
	  --results "$(abspath $(RESULTS))" --commit "$(COMMIT)" $(ARGS)

lint: $(DONE)-lint  ## everything that CI checks besides the tests
	@failed=
	ruff check --quiet . || failed=1
	ruff format --quiet --check --diff . || failed=1
	mypy --no-error-summary || failed=1
	clang-format --dry-run --Werror $(CPP) || failed=1
	codespell || failed=1
	lint-imports --no-logo > $(VENV)/import-linter.log || { cat $(VENV)/import-linter.log; failed=1; }
	python csrc/check_includes.py || failed=1
	[ -z "$$failed" ] && echo "fastgen: lint found nothing" || { echo "fastgen: lint failed" >&2; exit 1; }

format: $(DONE)-lint  ## rewrite the sources the way lint wants them
	@ruff check --quiet --fix . || true
	ruff format --quiet .
	clang-format -i $(CPP)

bench: $(DONE)-bench build  ## the benchmarks (ARGS='-k prdc' picks some)
	@$(RUN) pytest benchmarks --benchmark-only $(ARGS)

build: $(DONE)-build  ## the virtual environment with fastgen in it, nothing run

clean:  ## remove the virtual environment and every build
	rm -rf $(VENV) build

# -P: the sources in the working directory must not hide what was built. Tests of what runs in libraries of
# arrays leave JAX out, which compiles for minutes; wherever it comes in, it must not take the GPU's memory.
GPU_RUN = PYTHONPATH=$(CURDIR)/$(GPU_SITE) FASTGEN_TEST_LIBRARIES=$${FASTGEN_TEST_LIBRARIES-torch,cupy} \
  XLA_PYTHON_CLIENT_PREALLOCATE=false $(GPU_PYTHON) -P

# Ends the recipe with success and one line where there is no GPU.
define need_gpu
if ! { command -v nvidia-smi && nvidia-smi --list-gpus | grep -q '^GPU '; } > /dev/null 2>&1; then
	  echo "fastgen: nvidia-smi finds no GPU here: nothing was run"
	  exit 0
	fi
endef

# The package with its CUDA kernels for the GPU at hand, inside the checkout.
define gpu_build
mkdir -p build
	echo "fastgen: building for $$(nvidia-smi --query-gpu=name --format=csv,noheader | sort -u | paste -sd ';')"
	$(GPU_PYTHON) -m pip install --disable-pip-version-check --no-index --no-deps --no-build-isolation \
	  --upgrade --target $(GPU_SITE) -Cbuild-dir=build/gpu -Ccmake.define.FASTGEN_CUDA=ON \
	  -Ccmake.define.FASTGEN_CUDA_ARCHITECTURES=native . > build/gpu-build.log 2>&1 || {
	  grep -E -A 8 '(error|Error):? ' build/gpu-build.log | head -60 >&2 || tail -n 20 build/gpu-build.log >&2
	  echo "fastgen: the build failed (its log: build/gpu-build.log)" >&2
	  exit 1
	}
	# A machine for GPUs may lack this one dependency; SciPy has a copy of it.
	$(GPU_RUN) -c 'import array_api_compat' 2> /dev/null || cp -r "$$($(GPU_PYTHON) -c \
	  'import pathlib, scipy; print(next(pathlib.Path(scipy.__file__).parent.glob("_*/array_api_compat")))')" $(GPU_SITE)
endef

# $(call cpp_build,<CMake preset>)
define cpp_build
cmake --preset $(1) -G Ninja $(WERROR) > $(VENV)/cmake-$(1).log 2>&1 || { cat $(VENV)/cmake-$(1).log; exit 1; }
	cmake --build --preset $(1) -- --quiet
endef

# $(call cpp_tests,<CMake preset>)
define cpp_tests
$(call cpp_build,$(1))
	ctest --preset $(1) --no-tests=error --progress --parallel $(WORKERS)
endef

# $(call pip_install,<name of the log>,<arguments>)
define pip_install
echo "fastgen: installing $(1)"
	$(RUN) pip install --disable-pip-version-check --retries 2 -c $(CONSTRAINTS) $(2) > $(VENV)/pip-$(1).log 2>&1 || {
	  reason=$$(grep -q 'Retrying (' $(VENV)/pip-$(1).log && echo "no network?" || grep -m 1 ^ERROR $(VENV)/pip-$(1).log || true)
	  echo "fastgen: cannot install $(1): $$reason (pip's log: $(VENV)/pip-$(1).log)" >&2
	  exit 1
	}
endef

# Prints what pyproject.toml asks for: to build, to run, and for the extras named as arguments.
define READ_REQUIREMENTS
import sys, tomllib
with open("pyproject.toml", "rb") as file:
    config = tomllib.load(file)
extras = config["project"]["optional-dependencies"]
wanted = config["build-system"]["requires"] + config["project"]["dependencies"]
print(*wanted, "cmake", "ninja", *(r for name in sys.argv[1:] for r in extras[name]), sep="\n")
endef
export READ_REQUIREMENTS
export NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))

$(DONE)-venv:
	@if ! { $(RUN) pip --version && $(VENV)/bin/python -c "$$NEW_ENOUGH"; } > /dev/null 2>&1; then
	  $(PYTHON) -c "$$NEW_ENOUGH" > /dev/null 2>&1 || {
	    echo "fastgen: needs Python 3.11 or newer, got $$($(PYTHON) --version 2>&1 || true) (name another: make PYTHON=python3.12)" >&2
	    exit 1
	  }
	  echo "fastgen: making the virtual environment $(VENV)"
	  $(PYTHON) -m venv --clear $(VENV) > /dev/null || {
	    echo "fastgen: cannot make a virtual environment (on Debian and Ubuntu: apt-get install python3-venv)" >&2
	    exit 1
	  }
	fi
	touch $@

$(DONE)-requirements: $(DONE)-venv pyproject.toml $(CONSTRAINTS)
	@python -c "$$READ_REQUIREMENTS" cli sklearn test > $(VENV)/requirements.txt
	$(call pip_install,requirements,-r $(VENV)/requirements.txt)
	touch $@

$(DONE)-lint: $(DONE)-requirements
	@python -c "$$READ_REQUIREMENTS" lint > $(VENV)/requirements-lint.txt
	$(call pip_install,linters,-r $(VENV)/requirements-lint.txt)
	touch $@

$(DONE)-bench: $(DONE)-requirements
	@python -c "$$READ_REQUIREMENTS" bench > $(VENV)/requirements-bench.txt
	$(call pip_install,benchmark-requirements,-r $(VENV)/requirements-bench.txt)
	touch $@

$(DONE)-torch: $(DONE)-requirements
	@$(call pip_install,torch,torch)
	touch $@

# Editable: Python changes need nothing, C++ changes only make. No isolation and no index, so no network.
$(DONE)-build: $(DONE)-requirements CMakeLists.txt pyproject.toml $(CPP_PRODUCT)
	@command -v "$${CXX:-c++}" > /dev/null || {
	  echo "fastgen: needs a C++17 compiler (on Debian and Ubuntu: apt-get install g++)" >&2
	  exit 1
	}
	python -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' || {
	  echo "fastgen: needs the headers of $$(python --version) (on Debian and Ubuntu: apt-get install python3-dev)" >&2
	  exit 1
	}
	echo "fastgen: building"
	$(RUN) pip install --no-index --no-deps --no-build-isolation $(BUILD_OPTIONS) \
	  -Ccmake.define.FASTGEN_CUDA=$(CUDA) -Ccmake.define.FASTGEN_CUDA_ARCHITECTURES=native -e . > $(VENV)/build.log 2>&1 || {
	  grep -E -A 8 '(error|Error):? ' $(VENV)/build.log | head -60 >&2 || true
	  echo "fastgen: the build failed (its log: $(VENV)/build.log)" >&2
	  exit 1
	}
	touch $@
