"""How the hot tables lie on disk.

A checkpoint is rewritten at every commit: compressed by the node, so PostgreSQL must not try again
(EXTERNAL), and kept out of the row so that the narrow part stays HOT. Its TOAST table turns over
with every commit and wants vacuum early.
"""

from django.db import migrations

FORWARD = """
ALTER TABLE portfolios_checkpoint ALTER COLUMN state SET STORAGE EXTERNAL;
ALTER TABLE portfolios_checkpoint SET (
    fillfactor = 90,
    autovacuum_vacuum_scale_factor = 0.05,
    toast.autovacuum_vacuum_scale_factor = 0.05,
    toast.autovacuum_vacuum_threshold = 1000
);
"""
BACKWARD = """
ALTER TABLE portfolios_checkpoint ALTER COLUMN state SET STORAGE EXTENDED;
ALTER TABLE portfolios_checkpoint RESET (
    fillfactor,
    autovacuum_vacuum_scale_factor,
    toast.autovacuum_vacuum_scale_factor,
    toast.autovacuum_vacuum_threshold
);
"""


class Migration(migrations.Migration):
    dependencies = [("portfolios", "0001_initial")]
    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
