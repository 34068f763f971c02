SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
FUZZ_SECONDS ?= 120
# Programs that only look at the code never connect to anything, but the settings ask for an address.
NOWHERE := DATABASE_URL=postgres://nobody@127.0.0.1:1/nowhere REDIS_URL=redis://127.0.0.1:1/0

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-16s%s\n", $$1, $$2 }' Makefile

# Installs what the lock file says, with other groups than uv's if told. What is there already stays (--inexact).
# Compiled here and now: where Python may not write, each of hundreds of processes would compile all of it anew.
# What an interrupted start has half made, without pip or with a uv that does not run, is made again.
define sync
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' || \
		{ echo "Watchclock needs Python 3.11 to 3.14. Choose one: make PYTHON=python3.14 $(MAKECMDGOALS)"; exit 1; }
	@{ test -x $(BIN)/python && { $(BIN)/uv --version || $(BIN)/python -m pip --version; }; } >/dev/null 2>&1 || \
		$(PYTHON) -m venv --clear .venv
	@$(BIN)/uv --version >/dev/null 2>&1 || \
		$(BIN)/python -m pip install --quiet --force-reinstall --disable-pip-version-check uv
	@VIRTUAL_ENV="$$PWD/.venv" $(BIN)/uv sync --compile-bytecode --quiet --frozen --inexact --active $(1)
endef

# The stamps are newer than the lock file unless something changed: a second start costs nothing here. Running needs no
# development tools, which are more than half of all that is installed.
.venv/.runtime: pyproject.toml uv.lock
	@test -e $@ || echo "Installing, less than a minute, once ..."
	$(call sync,--no-dev)
	@touch $@

.venv/.synced: pyproject.toml uv.lock
	@test -e $@ || echo "Installing with the development tools, about a minute, once ..."
	$(call sync)
	@touch .venv/.runtime $@

install: .venv/.synced ## Create .venv and install the locked packages, with the development tools

# Other people's clients, which tests/clients runs. What they need contradicts what our tools need: each in its own place.
.venv/clients/python/.synced: .venv/.synced tests/clients/python/pyproject.toml tests/clients/python/uv.lock
	@UV_PROJECT_ENVIRONMENT="$$PWD/.venv/clients/python" $(BIN)/uv sync --compile-bytecode --quiet --frozen \
		--project tests/clients/python --python "$$PWD/$(BIN)/python"
	@touch $@

# Nobody needs node to work on Watchclock: without it these tests are skipped, and say so.
.venv/clients/node/.installed: tests/clients/node/package.json tests/clients/node/package-lock.json
	@mkdir -p $(@D) && cp $^ $(@D)
	@if ! command -v npm >/dev/null; then echo "npm is not installed: tests of clients in JavaScript will be skipped."; \
	elif npm ci --prefix $(@D) --engine-strict --ignore-scripts --no-audit --no-fund --loglevel error \
		--fetch-retries 2 --fetch-timeout 60000; then touch $@; \
	else echo "npm could not install them: tests of clients in JavaScript will be skipped."; fi

clients: .venv/clients/python/.synced .venv/clients/node/.installed ## Install the clients that the tests use

run: .venv/.runtime ## Start everything on this machine: engines, web, worker, delivery, beat
	@exec $(BIN)/python -m project.local.supervisor

demo: .venv/.runtime ## Start an instance of its own with two weeks of history, to look around in
	@exec $(BIN)/python -m project.local.supervisor --demo

test: .venv/.synced ## Run all but the long tests, or selected ones (ARGS="tests/monitors -k dst")
	@$(BIN)/python -m pytest $(if $(ARGS),-n 0 $(ARGS),-n 3 --dist loadgroup -m "not long")

lint: .venv/.synced ## Check style, spelling, dead code, types, import directions, changelog, migrations and production settings
	.ci/subjects
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/vulture
	$(BIN)/mypy .
	$(BIN)/lint-imports --no-logo
	$(BIN)/towncrier build --draft --version Unreleased >/dev/null
	@# Without a database it cannot compare migrations with history, and says so as a warning: that is not the question.
	$(NOWHERE) SECRET_KEY=unused PYTHONWARNINGS=ignore::RuntimeWarning \
		$(BIN)/python manage.py makemigrations --check --dry-run
	$(NOWHERE) SECRET_KEY="$$($(BIN)/python -c 'import secrets; print(secrets.token_urlsafe(64))')" \
		ALLOWED_HOSTS=watchclock.example PUBLIC_URL=https://watchclock.example \
		EMAIL_URL=smtp+tls://user:password@mail.example:587 ALERT_EMAIL_TO=ops@watchclock.example \
		SECRETS_KEYS=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8= \
		$(BIN)/python manage.py check --deploy --fail-level WARNING

ci: .venv/.synced clients ## Run all checks of a pull request: every test, including the long ones, then lint
	@[ "$(CHROMIUM)" = none ] || for name in chromium chromium-browser google-chrome; do command -v $$name; done | grep -q . || \
		{ echo "Chromium is missing, which opens the pages: install it, or set CHROMIUM=none to skip its tests." >&2; exit 1; }
	@$(BIN)/python -m pytest -n 3 --dist loadgroup
	@$(MAKE) --no-print-directory lint

screenshots: .venv/.synced ## Draw the pictures of the documentation anew (needs chromium)
	@$(BIN)/python -m pytest -n 0 -q tests/docs/screenshots.py

translations: .venv/.synced ## Bring the translations of pages up to date with the code, and compile them
	@$(BIN)/python -m tests.dashboard.translations.catalogs

changelog: .venv/.synced ## Show the changes of the next version, from the files in changelog.d
	@$(BIN)/towncrier build --draft --version Unreleased

format: .venv/.synced ## Fix what ruff can fix, and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

migration: .venv/.synced ## Write the migration for a changed model (APP=checkins NAME=say_what_it_does)
	@$(NOWHERE) SECRET_KEY=unused PYTHONWARNINGS=ignore::RuntimeWarning \
		$(BIN)/python manage.py makemigrations $(APP) $(if $(NAME),--name $(NAME))

fuzz: .venv/.synced ## Send malformed requests to ingest for FUZZ_SECONDS=120, and store those that make it fail
	@VIRTUAL_ENV="$$PWD/.venv" $(BIN)/uv sync --compile-bytecode --quiet --frozen --inexact --active --group fuzz
	@FUZZ_SECONDS=$$(( $(FUZZ_SECONDS) / 2 )) $(BIN)/python -m pytest tests/fuzz
	@$(BIN)/python -m tests.fuzz.decoding $$(( $(FUZZ_SECONDS) / 2 ))

mutate: .venv/.synced ## Mutate schedules, transitions, thresholds and volume, and list the mutants that no pure test detects
	@VIRTUAL_ENV="$$PWD/.venv" $(BIN)/uv sync --compile-bytecode --quiet --frozen --inexact --active --group mutate
	@# CI=1 gives every mutant the same random examples; in a zone other than UTC a forgotten zone is noticed.
	@CI=1 TZ=America/St_Johns $(BIN)/mutmut run --max-children 2
	@$(BIN)/mutmut results

bench-clock: .venv/.synced ## Measure ticks with a million misses (ENVIRONMENTS=100000 DUE=50000 TIMEOUTS=1000 WORKERS=2 GROWTH=0)
	@$(BIN)/python -m benchmarks.bench_clock $(foreach option,ENVIRONMENTS DUE TIMEOUTS WORKERS GROWTH POSTGRES,\
		$(if $($(option)),--$(shell echo $(option) | tr A-Z a-z) $($(option))))

bench-volume: .venv/.synced ## Measure false alarms and missed drops of the volume check (SEED=1, some minutes)
	@$(BIN)/python -m benchmarks.bench_volume $(if $(SEED),--seed $(SEED))

bench-notify: .venv/.synced ## Measure from ticks to accepted mails and webhooks (SINGLES=100 STORM=5000 UNFOLDED=5000)
	@$(BIN)/python -m benchmarks.bench_notify $(foreach option,SINGLES STORM UNFOLDED,\
		$(if $($(option)),--$(shell echo $(option) | tr A-Z a-z) $($(option))))

bench-history: .venv/.synced ## Compare ingest and clock on an empty database and after ROWS=50000000 check-ins (DAYS=90 PARTS=ingest,clock)
	@$(BIN)/python -m benchmarks.bench_history $(foreach option,ROWS DAYS PARTS ROUNDS,\
		$(if $($(option)),--$(shell echo $(option) | tr A-Z a-z) $($(option)))) $(if $(filter-out undefined,$(origin SECONDS)),--seconds $(SECONDS))

bench-admin: .venv/.synced ## Measure the admin's pages with 10,000 monitors and a million check-ins
	@$(BIN)/python -m benchmarks.bench_admin

bench-pages: .venv/.synced ## Measure the pages for people with 10,000 environments and a million check-ins (MONITORS=84000)
	@$(BIN)/python -m benchmarks.bench_pages $(if $(MONITORS),--monitors $(MONITORS)) $(if $(CHECKINS),--checkins $(CHECKINS))

bench-memory: .venv/.synced ## Measure the memory of all processes of make run at rest (REST=30 HOMEDIR=.watchclock)
	@$(BIN)/python -m benchmarks.bench_memory $(if $(REST),--rest $(REST)) $(if $(HOMEDIR),--home $(HOMEDIR))

bench-disk: .venv/.synced ## Measure the bytes of a check-in and where they go (ROWS=300000 ENVIRONMENTS=10000)
	@$(BIN)/python -m benchmarks.bench_disk $(foreach option,ROWS ENVIRONMENTS,\
		$(if $($(option)),--$(shell echo $(option) | tr A-Z a-z) $($(option))))

bench-ingest: .venv/.synced ## Measure check-ins a second for each protocol with wrk (SECONDS=10 CONNECTIONS=256 BURST=20000)
	@$(BIN)/python -m benchmarks.bench_ingest $(foreach option,PROTOCOLS CONNECTIONS MONITORS PROCESSES BURST,\
		$(if $($(option)),--$(shell echo $(option) | tr A-Z a-z) $($(option)))) $(if $(filter-out undefined,$(origin SECONDS)),--seconds $(SECONDS))

bench-compare: .venv/.synced ## Compare ingest and clock with an earlier commit, in turn (BASE=v0.1.0 ROUNDS=5 PARTS=ingest,clock)
	@$(BIN)/python -m benchmarks.compare $(BASE) $(foreach option,ROUNDS PARTS,\
		$(if $($(option)),--$(shell echo $(option) | tr A-Z a-z) $($(option))))

drill-ingest: .venv/.synced ## Break everything under load, and check that nothing is lost (DURATION=300 SEED=1)
	@$(BIN)/python -m drills.ingest $(foreach option,DURATION RATE SEED,\
		$(if $($(option)),--$(shell echo $(option) | tr A-Z a-z) $($(option))))

drill-clock: .venv/.synced ## Break every part of the clock, and check that no verdict is lost, doubled or false (DURATION=600 SEED=1)
	@$(BIN)/python -m drills.clock $(foreach option,DURATION JOBS SEED,\
		$(if $($(option)),--$(shell echo $(option) | tr A-Z a-z) $($(option))))

drill-abuse: .venv/.synced ## Send abusive requests, and check that other clients do not suffer (DURATION=300 SEED=1)
	@$(BIN)/python -m drills.abuse $(foreach option,DURATION SEED,\
		$(if $($(option)),--$(shell echo $(option) | tr A-Z a-z) $($(option))))

drill-notify: .venv/.synced ## Break everything that tells people of incidents, and check that all are told once (DURATION=120 INCIDENTS=1000 SEED=1)
	@$(BIN)/python -m drills.notify $(foreach option,DURATION INCIDENTS SEED,\
		$(if $($(option)),--$(shell echo $(option) | tr A-Z a-z) $($(option))))

drill-upgrade: .venv/.synced ## Upgrade an old version to this one under load, process by process (OLD=e2e8189 DURATION=120 SEED=1)
	@$(BIN)/python -m drills.upgrade $(foreach option,OLD DURATION SEED,\
		$(if $($(option)),--$(shell echo $(option) | tr A-Z a-z) $($(option))))

simulate: .venv/.synced ## Play stories in virtual time and compare the results (FILES="tests/scenarios/silence.jsonl ...")
	@$(BIN)/python manage.py simulate $(or $(FILES),tests/scenarios/*.jsonl)

sim: .venv/.synced ## Simulate small installations in virtual time by seed: a number, single seeds or a range (SEEDS=1000 17,42 1-99)
	@$(BIN)/python -m drills.simulation $(if $(SEEDS),--seeds $(SEEDS))

sim-notify: .venv/.synced ## Simulate small installations that tell people of incidents, like sim (SEEDS=1000 17,42 1-99)
	@$(BIN)/python -m drills.delivery $(if $(SEEDS),--seeds $(SEEDS))

soak: .venv/.synced ## Run 100,000 jobs with 2,000 check-ins a second, and compare the results (DURATION=600 ENVIRONMENTS=100000 RATE=2000 SEED=1)
	@$(BIN)/python -m drills.soak $(foreach option,DURATION ENVIRONMENTS RATE SEED,\
		$(if $($(option)),--$(shell echo $(option) | tr A-Z a-z) $($(option))))

.PHONY: help install clients run demo test lint ci screenshots translations changelog format migration fuzz mutate bench-clock bench-volume bench-history bench-admin bench-pages bench-memory bench-disk bench-ingest bench-compare drill-ingest drill-clock drill-abuse drill-notify drill-upgrade simulate sim sim-notify soak
