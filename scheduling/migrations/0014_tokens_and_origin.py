"""Expiry, name, scope and last use of tokens; interface and address of the audit log's lines.

Every column comes with a default of the database: nothing is rewritten, processes of the earlier release
go on while it runs, and existing tokens keep working, as tokens that may operate and never expire. Lines
of earlier releases have neither interface nor address.
"""

import django.db.models.functions.comparison
from django.db import migrations, models

from ginkgo_site.table_locks import PatientMigration


class Migration(PatientMigration):
    dependencies = [
        ("scheduling", "0013_python"),
    ]

    operations = [
        migrations.AddField(
            model_name="apitoken",
            name="created_by",
            field=models.CharField(blank=True, db_default="", default="", max_length=150),
        ),
        migrations.AddField(
            model_name="apitoken",
            name="expires_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="apitoken",
            name="last_used_at",
            field=models.DateTimeField(
                blank=True,
                help_text="Time of the last use; updated at most once a minute.",
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="apitoken",
            name="name",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="What the token is for.",
                max_length=80,
            ),
        ),
        migrations.AddField(
            model_name="apitoken",
            name="scope",
            field=models.CharField(
                choices=[("read", "Read"), ("operate", "Operate")],
                db_default="operate",
                default="operate",
                max_length=8,
            ),
        ),
        migrations.AddField(
            model_name="event",
            name="address",
            field=models.CharField(blank=True, db_default="", max_length=45),
        ),
        migrations.AlterField(
            model_name="event",
            name="address",
            field=models.CharField(
                blank=True,
                db_default=django.db.models.functions.comparison.Coalesce(
                    django.db.models.functions.comparison.NullIf(
                        models.Func(
                            models.Value("ginkgo.address"),
                            models.Value(True),
                            function="current_setting",
                            output_field=models.TextField(),
                        ),
                        models.Value(""),
                    ),
                    models.Value(""),
                ),
                max_length=45,
            ),
        ),
        migrations.AddField(
            model_name="event",
            name="interface",
            field=models.CharField(
                blank=True,
                choices=[
                    ("api", "Api"),
                    ("dashboard", "Dashboard"),
                    ("admin", "Admin"),
                    ("command", "Command"),
                    ("system", "System"),
                ],
                db_default="",
                max_length=10,
            ),
        ),
        migrations.AlterField(
            model_name="event",
            name="interface",
            field=models.CharField(
                blank=True,
                choices=[
                    ("api", "Api"),
                    ("dashboard", "Dashboard"),
                    ("admin", "Admin"),
                    ("command", "Command"),
                    ("system", "System"),
                ],
                db_default=django.db.models.functions.comparison.Coalesce(
                    django.db.models.functions.comparison.NullIf(
                        models.Func(
                            models.Value("ginkgo.interface"),
                            models.Value(True),
                            function="current_setting",
                            output_field=models.TextField(),
                        ),
                        models.Value(""),
                    ),
                    models.Value("system"),
                ),
                max_length=10,
            ),
        ),
        migrations.AddField(
            model_name="nodetoken",
            name="last_used_at",
            field=models.DateTimeField(
                blank=True,
                help_text="Time of the last use; updated at most once a minute.",
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="nodetoken",
            name="name",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="What the token is for.",
                max_length=80,
            ),
        ),
        migrations.AlterField(
            model_name="nodetoken",
            name="created_by",
            field=models.CharField(blank=True, db_default="", default="", max_length=150),
        ),
    ]
