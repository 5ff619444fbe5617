"""Nodes, runs and tenures know the Python version that computes, and runs which other they accept.

The defaults are constants of the database, so no table is rewritten, and an older web process that
still runs may go on inserting rows.
"""

from django.db import migrations, models

from ginkgo_site.table_locks import PatientMigration

FORWARD = """
DROP TRIGGER run_changed ON scheduling_run;
CREATE TRIGGER run_changed BEFORE UPDATE ON scheduling_run
    FOR EACH ROW
    WHEN (ROW(OLD.node_id, OLD.phase, OLD.phase_since, OLD.epoch, OLD.pinned_node_id,
              OLD.failures_by_node, OLD.revision, OLD.good_revision, OLD.reason, OLD.attempts,
              OLD.python, OLD.accept_python)
          IS DISTINCT FROM
          ROW(NEW.node_id, NEW.phase, NEW.phase_since, NEW.epoch, NEW.pinned_node_id,
              NEW.failures_by_node, NEW.revision, NEW.good_revision, NEW.reason, NEW.attempts,
              NEW.python, NEW.accept_python))
    EXECUTE FUNCTION ginkgo_changed();
"""
BACKWARD = """
DROP TRIGGER run_changed ON scheduling_run;
CREATE TRIGGER run_changed BEFORE UPDATE ON scheduling_run
    FOR EACH ROW
    WHEN (ROW(OLD.node_id, OLD.phase, OLD.phase_since, OLD.epoch, OLD.pinned_node_id,
              OLD.failures_by_node, OLD.revision, OLD.good_revision, OLD.reason, OLD.attempts)
          IS DISTINCT FROM
          ROW(NEW.node_id, NEW.phase, NEW.phase_since, NEW.epoch, NEW.pinned_node_id,
              NEW.failures_by_node, NEW.revision, NEW.good_revision, NEW.reason, NEW.attempts))
    EXECUTE FUNCTION ginkgo_changed();
"""


def version(help_text: str = "") -> models.Field:
    return models.CharField(
        max_length=16, blank=True, default="", db_default="", help_text=help_text
    )


class Migration(PatientMigration):
    dependencies = [("scheduling", "0012_commits_stand")]
    operations = [
        migrations.AddField(
            "node",
            "python",
            version("Minor version of the node's Python; empty: the daemon does not report it."),
        ),
        migrations.AddField(
            "run",
            "python",
            version("Minor version of Python on the present or last owner; empty: not known."),
        ),
        migrations.AddField(
            "run",
            "accept_python",
            version("The portfolio may go on under this Python version too."),
        ),
        migrations.AddField("tenure", "python", version()),
        migrations.RunSQL(FORWARD, BACKWARD),
    ]
