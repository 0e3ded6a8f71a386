"""What type checkers make of users' code: ``users.py`` says it, ``run.py`` compares."""
