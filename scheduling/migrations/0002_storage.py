"""Rows that every beat or commit rewrites get room on their page, so that updates stay HOT."""

from django.db import migrations

FORWARD = """
ALTER TABLE scheduling_run SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE scheduling_lease SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE scheduling_nodereport SET (fillfactor = 50);
"""
BACKWARD = """
ALTER TABLE scheduling_run RESET (fillfactor, autovacuum_vacuum_scale_factor);
ALTER TABLE scheduling_lease RESET (fillfactor, autovacuum_vacuum_scale_factor);
ALTER TABLE scheduling_nodereport RESET (fillfactor);
"""


class Migration(migrations.Migration):
    dependencies = [("scheduling", "0001_initial")]
    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
