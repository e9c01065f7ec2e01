"""One connection to a MariaDB server, each wait of which ends at a time that the caller gives.

The server gets the same limit, as ``max_statement_time``: it must not go on waiting for a lock when we have gone.

Loaded when a member is prepared, since PyMySQL is not installed everywhere.
"""

from __future__ import annotations

import getpass
import time
from typing import Any

from pymysql import Connection, Error
from pymysql.constants import CR, ER

from vsnapfs.core.errors import QuiesceError, TimedOutError
from vsnapfs.quiesce.sql import LostError, RefusedError

MARGIN_S = 0.25
"""The server gives up so much sooner than we, so that it can say so."""
