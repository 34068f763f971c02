"""Thousands of small installations that tell people of incidents, in virtual time: `make sim-notify SEEDS=1000`.

Starts a PostgreSQL of its own. A seed that fails prints its number and what was found; asked for by that number alone
(`make sim-notify SEEDS=17,`), the whole story is printed. The last line is JSON; the exit status is 1 if anything was
found.
"""

import sys

from drills.simulation.__main__ import main

if __name__ == "__main__":
    sys.exit(main(__doc__, "drills.delivery", "make sim-notify"))
