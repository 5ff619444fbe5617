"""Nodes keep the labels of their daemon and the edits of operators apart.

The defaults are constants of the database, so no table is rewritten. An older web process that
registers a daemon meanwhile writes `labels` alone; the daemon's next start corrects the rest.
"""

from django.db import migrations, models

from ginkgo_site.table_locks import PatientMigration


class Migration(PatientMigration):
    dependencies = [("scheduling", "0024_roll_outs")]

    operations = [
        migrations.AddField(
            model_name="node",
            name="label_edits",
            field=models.JSONField(
                blank=True,
                db_default=models.Value({}, models.JSONField()),
                default=dict,
                help_text="Edits by operators: label → new value; null: the label is removed.",
            ),
        ),
        migrations.AddField(
            model_name="node",
            name="reported_labels",
            field=models.JSONField(
                blank=True,
                db_default=models.Value({}, models.JSONField()),
                default=dict,
                help_text="The labels with which the node's daemon was started.",
            ),
        ),
        migrations.AlterField(
            model_name="node",
            name="labels",
            field=models.JSONField(
                blank=True,
                default=dict,
                help_text="The labels of the node's daemon, with the edits of operators.",
            ),
        ),
        migrations.RunSQL(
            "UPDATE scheduling_node SET reported_labels = labels", migrations.RunSQL.noop
        ),
    ]
