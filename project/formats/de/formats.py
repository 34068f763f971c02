"""Numbers keep the point: they stand in drawings and in values of fields too, which machines read."""

DECIMAL_SEPARATOR = "."
THOUSAND_SEPARATOR = ""
