"""Names of portfolios are plain: what is not is renamed, and the table refuses more of it.

`manage.py create_portfolio` once took a name that ends in a line break. Such a portfolio was in no
address, and every page that links to it failed. It keeps what is plain of its name, with the
beginning of its UUID, so that no other has it: `bad` and a line break become `bad-1a2b3c4d`.

The table has one row for each portfolio ever made; to check it takes milliseconds.
"""

from django.db import migrations, models

from ginkgo_site.table_locks import PatientMigration

PLAIN = r"^[a-z0-9]([a-z0-9-]{0,78}[a-z0-9])?$"

RENAME = """
UPDATE portfolios_portfolio SET name = trim(BOTH '-' FROM left(
    regexp_replace(lower(name), '[^a-z0-9-]+', '-', 'g'), 60)) || '-' || left(uid::text, 8)
WHERE name !~ '^[a-z0-9]([a-z0-9-]{0,78}[a-z0-9])?$'
"""
#: Nothing of the name was plain.
STRIP = "UPDATE portfolios_portfolio SET name = trim(BOTH '-' FROM name) WHERE name LIKE '-%'"


class Migration(PatientMigration):
    dependencies = [("portfolios", "0004_partitions")]
    operations = [
        migrations.RunSQL(RENAME, migrations.RunSQL.noop),
        migrations.RunSQL(STRIP, migrations.RunSQL.noop),
        # Deferred checks of the renamed rows, else the table cannot be altered.
        migrations.RunSQL("SET CONSTRAINTS ALL IMMEDIATE", migrations.RunSQL.noop),
        migrations.AddConstraint(
            "portfolio",
            models.CheckConstraint(
                condition=models.Q(("name__regex", PLAIN)), name="portfolio_name_plain"
            ),
        ),
    ]
