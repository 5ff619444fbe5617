"""Help texts of fields in plain words: no table changes."""

from __future__ import annotations

from django.db import migrations, models

from ginkgo_site.table_locks import PatientMigration


class Migration(PatientMigration):
    dependencies = [("portfolios", "0015_orders_by_time")]

    operations = [
        migrations.AlterField(
            model_name="artifact",
            name="name",
            field=models.CharField(
                max_length=100, help_text="Normalised name of the distribution."
            ),
        ),
        migrations.AlterField(
            model_name="artifact",
            name="python_tag",
            field=models.CharField(
                max_length=40, help_text="Python tag of the wheel, such as py3."
            ),
        ),
        migrations.AlterField(
            model_name="artifact",
            name="python_requirement",
            field=models.CharField(
                max_length=100,
                blank=True,
                default="",
                help_text="Python versions that the wheel requires, as in >=3.12; empty: any.",
            ),
        ),
        migrations.AlterField(
            model_name="artifact",
            name="pythons",
            field=models.JSONField(
                default=list,
                blank=True,
                help_text="Minor versions of Python that the wheel runs under; empty: any.",
            ),
        ),
        migrations.AlterField(
            model_name="artifact",
            name="env_sha256",
            field=models.CharField(
                max_length=64,
                blank=True,
                default="",
                help_text="sha256 of the lock; empty: no dependencies.",
            ),
        ),
        migrations.AlterField(
            model_name="artifactstrategy",
            name="class_path",
            field=models.CharField(
                max_length=300, help_text="Import path of the class, such as package.module:Class."
            ),
        ),
        migrations.AlterField(
            model_name="artifactstrategy",
            name="version",
            field=models.PositiveIntegerField(
                default=1, help_text="The version that the class declares."
            ),
        ),
        migrations.AlterField(
            model_name="artifactstrategy",
            name="checks",
            field=models.BooleanField(
                default=False,
                help_text="Its code checks the parameters or bars, in a separate process.",
            ),
        ),
        migrations.AlterField(
            model_name="artifactstrategy",
            name="warm_up",
            field=models.PositiveIntegerField(
                null=True,
                help_text="Events of warm-up that the strategy wants; null: not loaded yet.",
            ),
        ),
        migrations.AlterField(
            model_name="feedrow",
            name="keep_days",
            field=models.PositiveIntegerField(
                null=True,
                blank=True,
                help_text="Days after which records are dropped, once not needed; empty: never.",
            ),
        ),
        migrations.AlterField(
            model_name="instrument",
            name="scale",
            field=models.PositiveSmallIntegerField(
                help_text="Decimal places of the prices, which are stored as integers."
            ),
        ),
        migrations.AlterField(
            model_name="portfolio",
            name="priority",
            field=models.IntegerField(
                default=0, help_text="Portfolios of higher priority are placed first."
            ),
        ),
        migrations.AlterField(
            model_name="portfolio",
            name="first_seq",
            field=models.BigIntegerField(
                help_text="Seq of the first event that the portfolio sees."
            ),
        ),
        migrations.AlterField(
            model_name="portfolio",
            name="changed_in",
            field=models.BigIntegerField(
                db_default=0,
                editable=False,
                help_text="The transaction that last changed the row; set by a trigger.",
            ),
        ),
        migrations.AlterField(
            model_name="revision",
            name="artifact",
            field=models.ForeignKey(
                "portfolios.artifact",
                on_delete=models.PROTECT,
                null=True,
                blank=True,
                related_name="revisions",
                db_column="artifact_sha256",
                db_index=False,
                help_text="The artifact that the revision runs; null: a built-in strategy.",
            ),
        ),
        migrations.AlterField(
            model_name="revision",
            name="symbols",
            field=models.JSONField(
                default=list, blank=True, help_text="Symbols of the portfolio; empty: every symbol."
            ),
        ),
        migrations.AlterField(
            model_name="revision",
            name="changed_in",
            field=models.BigIntegerField(
                db_default=0,
                editable=False,
                help_text="The transaction that last changed the row; set by a trigger.",
            ),
        ),
        migrations.AlterField(
            model_name="order",
            name="tag",
            field=models.CharField(
                max_length=32,
                default="",
                db_default="",
                blank=True,
                help_text="A short text by which the strategy marks the order.",
            ),
        ),
        migrations.AlterField(
            model_name="order",
            name="ended_seq",
            field=models.BigIntegerField(
                null=True,
                blank=True,
                help_text="Seq of the event at which the order was cancelled or expired.",
            ),
        ),
        migrations.AlterField(
            model_name="order",
            name="decided_at",
            field=models.DateTimeField(
                help_text="Release time of the event on which the order was decided."
            ),
        ),
        migrations.AlterField(
            model_name="secret",
            name="set_at",
            field=models.DateTimeField(help_text="When the value was last set."),
        ),
        migrations.AlterField(
            model_name="secret",
            name="last_used_at",
            field=models.DateTimeField(
                null=True,
                blank=True,
                help_text="Time of the last use; updated at most once a minute.",
            ),
        ),
    ]
