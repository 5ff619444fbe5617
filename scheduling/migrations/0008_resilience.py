from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("scheduling", "0007_why"),
    ]

    operations = [
        migrations.CreateModel(
            name="Resilience",
            fields=[
                (
                    "node",
                    models.OneToOneField(
                        on_delete=models.deletion.CASCADE,
                        primary_key=True,
                        related_name="resilience",
                        serialize=False,
                        to="scheduling.node",
                    ),
                ),
                (
                    "as_of",
                    models.DateTimeField(help_text="When the fleet was read for this forecast."),
                ),
                (
                    "runs",
                    models.PositiveIntegerField(
                        help_text="Portfolios that would need another place."
                    ),
                ),
                (
                    "fit",
                    models.PositiveIntegerField(
                        help_text="Portfolios that would have another place at once."
                    ),
                ),
                (
                    "homeless",
                    models.PositiveIntegerField(help_text="Portfolios that would have no place."),
                ),
                (
                    "waiting",
                    models.PositiveIntegerField(
                        help_text="Portfolios that would have to wait for a place."
                    ),
                ),
                ("reasons", models.JSONField(default=list)),
                (
                    "suspects",
                    models.JSONField(
                        default=list, help_text="Suspect nodes that the forecast counts as places."
                    ),
                ),
            ],
        ),
    ]
