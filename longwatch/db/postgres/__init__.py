"""The engine for a fleet of hosts: PostgreSQL 14 and newer, through psycopg's libpq.

link.py one connection in pipelines; pool.py all of a process; clock.py the fleet's time; database.py the seam;
dialect.py how common SQL is said here; bells.py doorbells; refusals.py what can be wrong.
"""

from longwatch.db.postgres.database import PostgresDatabase

__all__ = ["PostgresDatabase"]
