# make demo | test | lint | bench: each makes its own virtual environment in .venv first.
# A second run needs no network: what has been installed and built is remembered in .venv/.done-*.
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
CONSTRAINTS ?= constraints.txt
ARGS ?=
VENV := .venv
DONE := $(VENV)/.done
RUN := $(VENV)/bin/python -m
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

CPP := $(shell find csrc -name '*.cpp' -o -name '*.hpp')
CPP_PRODUCT := $(filter-out csrc/tests/%,$(CPP))
ARM := $(shell command -v aarch64-linux-gnu-g++ >/dev/null && command -v qemu-aarch64 >/dev/null && echo yes)

ifeq ($(CI),true)
TEST_NEEDS := $(DONE)-torch
WERROR := -DFASTGEN_WERROR=ON
BUILD_OPTIONS := -Ccmake.define.FASTGEN_WERROR=ON
endif

.PHONY: help demo test test-cpp test-arm test-python lint format bench build clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

demo: build  ## fit generators to real digits and print their metrics
	@$(RUN) fastgen demo $(ARGS)

test: $(TEST_NEEDS) build  ## every test: C++ under sanitizers, C++ for ARM where it can run, Python
	@$(MAKE) --no-print-directory test-cpp
	$(if $(ARM)$(filter true,$(CI)),$(MAKE) --no-print-directory test-arm)
	$(MAKE) --no-print-directory test-python

test-cpp: $(DONE)-requirements  ## the C++ tests under the address and undefined-behaviour sanitizers
	@$(call cpp_tests,asan)

test-arm: $(DONE)-requirements  ## the C++ tests cross-compiled for 64-bit ARM, run by qemu-user
	@$(if $(ARM),,echo "fastgen: the ARM tests need aarch64-linux-gnu-g++ and qemu-aarch64 (on Debian and Ubuntu: apt-get install g++-aarch64-linux-gnu qemu-user)" >&2; exit 1)
	$(call cpp_tests,arm)

test-python: build  ## pytest alone
	@$(RUN) pytest $(ARGS)

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

# $(call cpp_tests,<CMake preset>)
define cpp_tests
cmake --preset $(1) -G Ninja $(WERROR) > $(VENV)/cmake-$(1).log 2>&1 || { cat $(VENV)/cmake-$(1).log; exit 1; }
	cmake --build --preset $(1) -- --quiet
	ctest --preset $(1) --no-tests=error --progress
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
	$(RUN) pip install --no-index --no-deps --no-build-isolation $(BUILD_OPTIONS) -e . > $(VENV)/build.log 2>&1 || {
	  grep -E -A 8 '(error|Error):? ' $(VENV)/build.log | head -60 >&2 || true
	  echo "fastgen: the build failed (its log: $(VENV)/build.log)" >&2
	  exit 1
	}
	touch $@
