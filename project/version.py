"""Which Watchclock this is. A test holds it to pyproject.toml, which no installation has."""

VERSION = "0.2.0.dev0"
