"""The one table: invalidations of which nobody has said yet that Redis was told."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models.functions import Now


class Undelivered(models.Model):
    """The tables that one transaction has changed; never cached and never tracked."""

    #: Random: writers never wait for each other.
    id: models.CharField[str, str] = models.CharField(max_length=32, primary_key=True)
    #: A JSON list of names as keys carry them.
    tables: models.TextField[str, str] = models.TextField()
    #: For people; nothing depends on clocks.
    created: models.DateTimeField[Any, Any] = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        verbose_name = "undelivered invalidation"

    def __str__(self) -> str:
        return f"{self.tables} since {self.created}"
