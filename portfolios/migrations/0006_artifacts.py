"""Strategy artifacts, and the revisions that pin them.

A new column without a value rewrites no row. The partial index has no entry yet: building it reads
a table of one row for each revision, in milliseconds.
"""

import django.db.models.deletion
from django.db import migrations, models

from ginkgo_site.table_locks import PatientMigration

#: A wheel is compressed already.
PLAIN = "ALTER TABLE portfolios_artifact ALTER COLUMN wheel SET STORAGE EXTERNAL"


class Migration(PatientMigration):
    dependencies = [
        ("portfolios", "0005_plain_names"),
    ]

    operations = [
        migrations.CreateModel(
            name="ArtifactStrategy",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=80)),
                (
                    "class_path",
                    models.CharField(
                        help_text="Import path of the class, such as package.module:Class.",
                        max_length=300,
                    ),
                ),
                (
                    "version",
                    models.PositiveIntegerField(
                        default=1, help_text="The version that the class declares."
                    ),
                ),
                ("state_version", models.PositiveIntegerField(default=1)),
                (
                    "schema",
                    models.JSONField(default=dict, help_text="JSON schema of the parameters."),
                ),
                ("sees_every_symbol", models.BooleanField(default=False)),
                (
                    "checks",
                    models.BooleanField(
                        default=False,
                        help_text="Its code checks the parameters or bars, in a separate process.",
                    ),
                ),
                (
                    "warm_up",
                    models.PositiveIntegerField(
                        help_text="Events of warm-up that the strategy wants; null: not loaded yet.",
                        null=True,
                    ),
                ),
                ("summary", models.CharField(blank=True, default="", max_length=300)),
            ],
            options={
                "db_table": "portfolios_strategy",
                "ordering": ["name"],
            },
        ),
        migrations.CreateModel(
            name="Artifact",
            fields=[
                ("sha256", models.CharField(max_length=64, primary_key=True, serialize=False)),
                (
                    "name",
                    models.CharField(
                        help_text="Normalised name of the distribution.", max_length=100
                    ),
                ),
                ("version", models.CharField(max_length=64)),
                ("filename", models.CharField(max_length=200)),
                ("wheel", models.BinaryField()),
                ("size", models.PositiveIntegerField(help_text="Bytes of the wheel.")),
                ("summary", models.CharField(blank=True, default="", max_length=300)),
                (
                    "python_tag",
                    models.CharField(
                        help_text="Python tag of the wheel, such as py3.", max_length=40
                    ),
                ),
                (
                    "python_requirement",
                    models.CharField(
                        blank=True,
                        default="",
                        help_text="Python versions that the wheel requires, as in >=3.12; empty: any.",
                        max_length=100,
                    ),
                ),
                (
                    "pythons",
                    models.JSONField(
                        blank=True,
                        default=list,
                        help_text="Minor versions of Python that the wheel runs under; empty: any.",
                    ),
                ),
                (
                    "lock",
                    models.TextField(blank=True, default="", help_text="Requirements with hashes."),
                ),
                (
                    "env_sha256",
                    models.CharField(
                        blank=True,
                        default="",
                        help_text="sha256 of the lock; empty: no dependencies.",
                        max_length=64,
                    ),
                ),
                ("uploaded_by", models.CharField(blank=True, default="", max_length=150)),
                ("at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "ordering": ["name", "-at"],
                "base_manager_name": "objects",
                "default_manager_name": "objects",
                "indexes": [
                    models.Index(
                        condition=models.Q(("env_sha256", ""), _negated=True),
                        fields=["env_sha256"],
                        name="artifact_env",
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("name", "version"), name="artifact_version_once"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("sha256__regex", "^[0-9a-f]{64}$")),
                        name="artifact_sha256_hex",
                    ),
                ],
            },
        ),
        migrations.AddField(
            model_name="revision",
            name="artifact",
            field=models.ForeignKey(
                blank=True,
                db_column="artifact_sha256",
                db_index=False,
                help_text="The artifact that the revision runs; null: a built-in strategy.",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="revisions",
                to="portfolios.artifact",
            ),
        ),
        migrations.AddIndex(
            model_name="revision",
            index=models.Index(
                condition=models.Q(("artifact__isnull", False)),
                fields=["artifact"],
                name="revision_artifact",
            ),
        ),
        migrations.AddField(
            model_name="artifactstrategy",
            name="artifact",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="strategies",
                to="portfolios.artifact",
            ),
        ),
        migrations.AddConstraint(
            model_name="artifactstrategy",
            constraint=models.UniqueConstraint(
                fields=("artifact", "name"), name="strategy_name_once"
            ),
        ),
        migrations.RunSQL(PLAIN, migrations.RunSQL.noop),
    ]
