"""From a raw event log to a prepared dataset.

Each file is read by its format (`formats`), row by row checked and staged (`landing`); one expression tree filters,
orders and splits what is staged (`pipeline`), an engine runs it (`engine`), and the result is written (`writing`).
"""

from valuerec.events.account import account_table
from valuerec.events.drift import DriftError, drift_table
from valuerec.events.preparing import prepare

__all__ = ["DriftError", "account_table", "drift_table", "prepare"]
