"""The last release: a column less."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("deployed", "0003_data")]
    operations = [migrations.RemoveField("item", "size")]
