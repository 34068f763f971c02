SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin

help: ## Print what there is
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 16

.venv/.synced: pyproject.toml uv.lock
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@VIRTUAL_ENV="$$PWD/.venv" $(BIN)/uv sync --quiet --frozen --inexact --active
	@touch $@

install: .venv/.synced ## Create .venv and install what the lock file says

run: .venv/.synced ## Start everything on this machine: engines, web, worker, beat
	@exec $(BIN)/python -m project.supervisor

test: .venv/.synced ## Run all tests on embedded engines
	@$(BIN)/python -m pytest -n 2

lint: .venv/.synced ## Check style, types, import directions, migrations and production settings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	$(BIN)/lint-imports
	DJANGO_SETTINGS_MODULE=tests.settings $(BIN)/python manage.py makemigrations --check --dry-run
	SECRET_KEY=$$($(BIN)/python -c 'import secrets; print(secrets.token_urlsafe(64))') ALLOWED_HOSTS=watchclock.example \
		$(BIN)/python manage.py check --deploy --fail-level WARNING

.PHONY: help install run test lint
