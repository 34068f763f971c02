"""What was sent has been addressed; of what is open and was told to nobody, people are told once there are some."""

from django.db import migrations

ADDRESS = """
    UPDATE incidents_notification SET addressed_at = sent_at WHERE sent_at IS NOT NULL
"""
TOLD_TO_NOBODY = """
    INSERT INTO incidents_notification (incident_id, transition, channel, created_at, nobody_since)
    SELECT i.id, 'opened', 'email', i.opened_at, i.opened_at
      FROM incidents_incident i
      JOIN monitors_monitorenvironment me ON me.id = i.monitor_environment_id AND NOT me.is_muted
      JOIN incidents_issue s ON s.id = i.issue_id AND s.status <> 'archived'
     WHERE i.resolved_at IS NULL
       AND NOT EXISTS (SELECT 1 FROM incidents_notification n WHERE n.incident_id = i.id)
    ON CONFLICT DO NOTHING
"""


class Migration(migrations.Migration):

    dependencies = [
        ('incidents', '0005_tell_each_recipient'),
    ]

    operations = [
        migrations.RunSQL(ADDRESS, migrations.RunSQL.noop),
        migrations.RunSQL(TOLD_TO_NOBODY, migrations.RunSQL.noop),
    ]
