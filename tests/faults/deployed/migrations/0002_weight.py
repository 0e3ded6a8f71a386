"""The new release: a column more."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("deployed", "0001_first")]
    operations = [migrations.AddField("item", "weight", models.IntegerField(null=True))]
