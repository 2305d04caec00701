# One command per intent. Set up first with the README's second command.

test *ARGS:
    .venv/bin/pytest {{ARGS}}

lint:
    .venv/bin/ruff check .
    .venv/bin/ruff format --check .

types:
    .venv/bin/mypy

bench:
    .venv/bin/python bench/engine.py
    .venv/bin/python bench/matching.py
    .venv/bin/python bench/balancing.py

check: lint types test
