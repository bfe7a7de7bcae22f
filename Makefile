# Needs make and Python 3.11 or newer; everything else is installed into .venv, once.
.PHONY: demo test lint bench docs test-versions package clean

PYTHON ?= $(firstword $(foreach name,python3.13 python3.12 python3.11 python3 python,\
	$(shell $(name) -c 'import sys, venv, ensurepip; print("$(name)" if sys.version_info >= (3, 11) else "")' 2>/dev/null)))
BIN := .venv/bin
PYTEST := python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal --max-worker-restart 0
OUT ?= out/demo

demo: .venv/installed
	$(BIN)/reconjax align digits --out $(OUT)
	$(BIN)/reconjax project digits --out $(OUT)
	$(BIN)/reconjax detect digits --out $(OUT)
	$(BIN)/reconjax sweep digits --patches 1 2 4 --ratios 0 0.25 0.5 0.75 0.9 0.99 --out $(OUT)
	$(BIN)/reconjax compare digits --out $(OUT)
	$(BIN)/reconjax advise digits --out $(OUT)
	$(BIN)/reconjax report digits --out $(OUT)

test: .venv/installed lint
	$(BIN)/$(PYTEST)

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The table of speed: this machine beside the one that the committed figures are of.
bench: .venv/installed
	$(BIN)/python -m benchmarks.beside --out out/bench

# Tutorials run as the site is built, in out/docs; links are checked, and nothing is loaded from elsewhere.
docs: .venv/docs
	rm -rf out/docs && mkdir -p out/docs
	cd out/docs && PYTHONPATH="$(CURDIR)" PATH="$(abspath $(BIN)):$$PATH" $(abspath $(BIN))/python -m mkdocs build --strict -f ../../mkdocs.yml
	@! grep -rlE --include='*.html' '<(script|img|iframe)[^>]* src="?(https?:)?//|<link[^>]* rel="(stylesheet|preconnect)"[^>]*//' out/site

.venv/docs: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	touch $@

# A wheel and an sdist, and what they do in environments of their own.
package: .venv/installed
	rm -rf out/package && mkdir -p out/package/elsewhere
	$(BIN)/python -m venv out/package/build && out/package/build/bin/pip install --quiet build
	out/package/build/bin/python -m build --outdir out/package/dist .
	for file in out/package/dist/*; do \
		$(BIN)/python -m venv --clear out/package/clean && \
		out/package/clean/bin/pip install --quiet "$$file" && \
		(cd out/package/elsewhere && ../clean/bin/reconjax --version && ../clean/bin/reconjax align digits) \
		|| exit 1; \
	done

# The tests on the oldest jax that is supported, and on the newest one for the newest Python that is here.
NEWEST ?= $(firstword $(foreach name,python3.14 python3.13 python3.12 python3.11,\
	$(shell $(name) -c 'import venv, ensurepip; print("$(name)")' 2>/dev/null)))
TESTS ?= tests
test-versions:
	$(PYTHON) -m venv out/oldest && out/oldest/bin/pip install --quiet --editable '.[test]' 'jax==0.10.0' 'jaxlib==0.10.0'
	$(NEWEST) -m venv out/newest && out/newest/bin/pip install --quiet --upgrade --upgrade-strategy eager --editable '.[test]'
	for each in oldest newest; do \
		out/$$each/bin/reconjax --version && out/$$each/bin/$(PYTEST) $(TESTS) || exit 1; \
	done

# Installed again only when the requirements change.
.venv/installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer (with venv) is needed" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

clean:
	rm -rf .venv out
