"""The kill switch's acts. Additive; the run table is locked for the moment its column is added."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("scheduling", "0002_storage")]
    operations = [
        migrations.CreateModel(
            name="Halt",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("at", models.DateTimeField()),
                ("actor", models.CharField(max_length=150)),
                ("reason", models.CharField(blank=True, default="", max_length=200)),
                (
                    "running",
                    models.PositiveIntegerField(
                        help_text="How many portfolios had an owner at the halt."
                    ),
                ),
                (
                    "stopped",
                    models.PositiveIntegerField(
                        help_text="How many portfolios the halt stopped, pending ones included."
                    ),
                ),
                ("undone_at", models.DateTimeField(blank=True, null=True)),
                ("undone_by", models.CharField(blank=True, default="", max_length=150)),
            ],
            options={"ordering": ["-id"]},
        ),
        migrations.AddField(
            model_name="run",
            name="halt",
            field=models.ForeignKey(
                blank=True,
                help_text="The halt that stopped the portfolio, until it is started again.",
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="runs",
                to="scheduling.halt",
            ),
        ),
    ]
