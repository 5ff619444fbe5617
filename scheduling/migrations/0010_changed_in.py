"""Each run says which transaction last changed what a plan reads of it.

Not a commit: that changes none of these columns, so its row stays HOT and nobody reads it anew.
"""

from django.db import migrations, models

FORWARD = """
CREATE TRIGGER run_changed BEFORE UPDATE ON scheduling_run
    FOR EACH ROW
    WHEN (ROW(OLD.node_id, OLD.phase, OLD.phase_since, OLD.epoch, OLD.pinned_node_id,
              OLD.failures_by_node, OLD.revision, OLD.good_revision, OLD.reason, OLD.attempts)
          IS DISTINCT FROM
          ROW(NEW.node_id, NEW.phase, NEW.phase_since, NEW.epoch, NEW.pinned_node_id,
              NEW.failures_by_node, NEW.revision, NEW.good_revision, NEW.reason, NEW.attempts))
    EXECUTE FUNCTION ginkgo_changed();
"""
BACKWARD = """
DROP TRIGGER run_changed ON scheduling_run;
"""


class Migration(migrations.Migration):
    dependencies = [("scheduling", "0009_even_by"), ("portfolios", "0003_changed_in")]
    operations = [
        migrations.AddField(
            "run",
            "changed_in",
            models.BigIntegerField(
                db_default=0,
                editable=False,
                help_text="The transaction that last changed what a plan reads; set by a trigger.",
            ),
        ),
        migrations.AddIndex("run", models.Index(fields=["changed_in"], name="run_changed")),
        migrations.RunSQL(FORWARD, BACKWARD),
    ]
