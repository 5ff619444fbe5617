"""An incarnation is held by one node: no other can register under it, or report and commit as it.

Two leases that share one come from a daemon that took what another had drawn. Which of the two is
honest is not known, so both get an incarnation that no daemon has: both daemons are told that they
were superseded, end, and whoever starts them again registers anew. Their runs are placed elsewhere,
as those of any incarnation that is no more.

The table has one narrow row for each node. Building the index locks out beats for that moment only.
"""

from django.db import migrations, models

from ginkgo_site.table_locks import PatientMigration

PART = """
UPDATE scheduling_lease SET incarnation = gen_random_uuid()
WHERE incarnation IN (
    SELECT incarnation FROM scheduling_lease GROUP BY incarnation HAVING count(*) > 1
)
"""


class Migration(PatientMigration):
    dependencies = [("scheduling", "0010_changed_in")]
    operations = [
        # Nobody registers between the two: what was parted must still be apart for the index.
        migrations.RunSQL(
            "LOCK TABLE scheduling_lease IN SHARE ROW EXCLUSIVE MODE", migrations.RunSQL.noop
        ),
        migrations.RunSQL(PART, migrations.RunSQL.noop),
        migrations.AlterField("lease", "incarnation", models.UUIDField(unique=True)),
    ]
