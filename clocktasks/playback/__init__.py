"""The clock played back: stories in virtual time, and ticks once more."""
