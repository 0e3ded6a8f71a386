"""The table of the outbox."""

from __future__ import annotations

from django.db import migrations, models
from django.db.models.functions import Now


class Migration(migrations.Migration):
    """One table, without relations."""

    initial = True

    operations = [
        migrations.CreateModel(
            name="Undelivered",
            fields=[
                ("id", models.CharField(max_length=32, primary_key=True, serialize=False)),
                ("tables", models.TextField()),
                ("created", models.DateTimeField(db_default=Now(), editable=False)),
            ],
            options={"verbose_name": "undelivered invalidation"},
        ),
    ]
