"""A small shop, written as for django-cacheops: only the name of the app that it imports differs.

``python -m examples.shop migrate`` and so on; see ``settings.py`` for what it needs.
"""
