"""Has every Python process of a run live on another day; `make test-calendar` puts this directory on their path.

ONECODE_CALENDAR: `+N` for N days from now, or a day as YYYY-MM-DD; the clock goes on from there at its usual speed.
"""

import os
from datetime import UTC, datetime, timedelta

import time_machine

DAY = os.environ.get("ONECODE_CALENDAR", "")
if DAY:
    now = datetime.now(UTC)
    if DAY.startswith("+"):
        then = now + timedelta(days=int(DAY))
    else:
        then = datetime.combine(datetime.fromisoformat(DAY), now.time(), UTC)
    time_machine.travel(then, tick=True).start()
