"""Django's own ORM tests with every model and op cached: ``python -m tests.django_suite.run``."""
