"""Invalidations that survive the death of the process that owes them.

Add ``"cacheops_lite.contrib.outbox"`` to ``INSTALLED_APPS`` and run ``migrate`` for each database
whose models are cached. Then each commit that invalidates also leaves a row in its own database,
in the same transaction, and removes it once Redis has been told. A row that stays is delivered by
another process, or by ``./manage.py cacheops deliver``.
"""
