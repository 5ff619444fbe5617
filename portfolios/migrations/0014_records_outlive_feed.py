"""Records are dropped after their feed: drop their foreign key."""

from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models

from ginkgo_site.table_locks import PatientMigration


class Migration(PatientMigration):
    dependencies = [("portfolios", "0013_feeds_in_streams")]

    operations = [
        migrations.AlterField(
            model_name="feedrecord",
            name="feed",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to="portfolios.feedrow",
            ),
        ),
    ]
