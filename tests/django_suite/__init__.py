"""Django's own ORM tests, run with every model and every op cached: ``python -m tests.django_suite.run``."""
