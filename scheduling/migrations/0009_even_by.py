from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("scheduling", "0008_resilience"),
    ]

    operations = [
        migrations.AddField(
            model_name="control",
            name="even_by",
            field=models.CharField(
                choices=[("weight", "Weight"), ("cpu", "Cpu")],
                db_default="weight",
                default="weight",
                help_text="The load that a rebalance evens out: weight or CPU.",
                max_length=10,
            ),
        ),
    ]
