"""Each row says which transaction changed it last, so that a look reads only what changed.

A constant default, so that no table is rewritten; rows of before are of transaction 0.
"""

from django.db import migrations, models

FORWARD = """
CREATE FUNCTION ginkgo_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.changed_in := pg_current_xact_id()::text::bigint;
    RETURN NEW;
END
$$;
CREATE TRIGGER portfolio_changed BEFORE UPDATE ON portfolios_portfolio
    FOR EACH ROW EXECUTE FUNCTION ginkgo_changed();
-- A new portfolio comes with its first revision, whose stamp is enough.
CREATE TRIGGER revision_changed BEFORE INSERT OR UPDATE ON portfolios_revision
    FOR EACH ROW EXECUTE FUNCTION ginkgo_changed();
"""
BACKWARD = """
DROP TRIGGER portfolio_changed ON portfolios_portfolio;
DROP TRIGGER revision_changed ON portfolios_revision;
DROP FUNCTION ginkgo_changed();
"""


def changed_in() -> models.Field:
    return models.BigIntegerField(
        db_default=0,
        editable=False,
        help_text="The transaction that last changed the row; set by a trigger.",
    )


class Migration(migrations.Migration):
    dependencies = [("portfolios", "0002_storage")]
    operations = [
        migrations.AddField("portfolio", "changed_in", changed_in()),
        migrations.AddField("revision", "changed_in", changed_in()),
        migrations.AddIndex(
            "portfolio", models.Index(fields=["changed_in"], name="portfolio_changed")
        ),
        migrations.AddIndex(
            "revision", models.Index(fields=["changed_in"], name="revision_changed")
        ),
        migrations.RunSQL(FORWARD, BACKWARD),
    ]
