"""Count the occurrences of each incident and number them, and keep the first 10 and the newest 100 of them (D42)."""

from django.db import migrations, models

FORWARDS = """
UPDATE incidents_incident AS i SET occurrence_count = counted.count
  FROM (SELECT incident_id, count(*) FROM incidents_occurrence GROUP BY incident_id) AS counted
 WHERE counted.incident_id = i.id;
CREATE TEMPORARY TABLE numbered ON COMMIT DROP AS
SELECT id, row_number() OVER (PARTITION BY incident_id ORDER BY id) AS number,
       count(*) OVER (PARTITION BY incident_id) AS count
  FROM incidents_occurrence;
DELETE FROM incidents_occurrence AS o USING numbered
 WHERE numbered.id = o.id AND numbered.number > 10 AND numbered.number <= numbered.count - 100;
UPDATE incidents_occurrence AS o SET number = numbered.number FROM numbered WHERE numbered.id = o.id;
DROP TABLE numbered;
SET CONSTRAINTS ALL IMMEDIATE;
"""


class Migration(migrations.Migration):
    dependencies = [("incidents", "0002_check_each_reference_once")]

    operations = [
        migrations.AddField("incident", "occurrence_count", models.PositiveIntegerField(default=0)),
        migrations.AddField("occurrence", "number", models.PositiveIntegerField(null=True)),
        migrations.RunSQL(FORWARDS, migrations.RunSQL.noop),
        migrations.AlterField("occurrence", "number", models.PositiveIntegerField()),
        migrations.AddConstraint(
            "occurrence",
            models.UniqueConstraint(fields=("incident", "number"), name="occurrence_numbered_once"),
        ),
    ]
