"""The engine of one host: SQLite through apsw, and a turnstile in front of its write lock.

database.py the seam; transaction.py how named statements are said to it; tables.py what the migrations make;
refusals.py what can be wrong with a state. apsw is imported nowhere else, but for backups.
"""

from longwatch.db.sqlite.database import BUSY_MS, SqliteDatabase
from longwatch.db.sqlite.refusals import translated
from longwatch.db.sqlite.tables import tables
from longwatch.db.sqlite.transaction import SqliteTransaction

__all__ = ["BUSY_MS", "SqliteDatabase", "SqliteTransaction", "tables", "translated"]
