"""Tools that all apps share: time, SQL, Valkey, counters. No word of what is watched stands in here."""
