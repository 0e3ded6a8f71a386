"""The tests of well-known Django packages, run with everything cached: ``run.py`` is the command."""
