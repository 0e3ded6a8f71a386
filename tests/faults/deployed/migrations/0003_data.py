"""Rows are changed by historical models and by SQL."""

from django.db import migrations


def repaint(apps, schema_editor):
    item = apps.get_model("deployed", "Item")
    item.objects.filter(name="one").update(color="green")
    item.objects.create(name="migrated", color="red", weight=1)


def undo(apps, schema_editor):
    apps.get_model("deployed", "Item").objects.filter(name="migrated").delete()


class Migration(migrations.Migration):
    dependencies = [("deployed", "0002_weight")]
    operations = [
        migrations.RunPython(repaint, undo),
        migrations.RunSQL(
            "UPDATE deployed_item SET name = 'by sql' WHERE name = 'two'",
            "UPDATE deployed_item SET name = 'two' WHERE name = 'by sql'",
        ),
    ]
