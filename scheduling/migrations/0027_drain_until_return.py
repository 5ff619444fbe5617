"""A drain may end by itself once the node returns. The default is a constant: no table rewrite."""

from django.db import migrations, models

from ginkgo_site.table_locks import PatientMigration


class Migration(PatientMigration):
    dependencies = [("scheduling", "0026_gateways")]

    operations = [
        migrations.AddField(
            model_name="node",
            name="drain_until_return",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="The drain ends when the node's daemon has left and registers again.",
            ),
        ),
    ]
