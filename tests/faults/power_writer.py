"""A process that submits tasks one by one and tells each acknowledgement on standard output. Run by test_power_cut.

power_writer.py submit STATE full|normal PAGES NAME     every key that lw.submit came back for, one a line
power_writer.py audit STATE                             one JSON object: the integrity check and every key there is
"""

# pyright: reportUnknownMemberType=false
import itertools
import json
import sys

import longwatch
from longwatch.db.sqlite import SqliteDatabase
from longwatch.runtime.world import Machine


def submit(state: str, durability: str, pages: str, name: str) -> None:
    lw = longwatch.open(state, config={"fleet": {"durability": durability, "root": "/"}})

    @lw.task("note")
    def note(run: longwatch.Run, text: str) -> str:
        return text

    database = lw.opened.parts.database
    assert isinstance(database, SqliteDatabase)
    database.connection.execute(f"pragma wal_autocheckpoint = {pages}").fetchall()
    for number in itertools.count():
        key = f"{name}-{number}"
        lw.submit(note.bind("x" * 200), key=key)
        sys.stdout.write(key + "\n")
        sys.stdout.flush()


def audit(state: str) -> None:
    database = SqliteDatabase(state, Machine())
    checked = [row[0] for row in database.connection.execute("pragma integrity_check")]
    keys = [row[0] for row in database.connection.execute("select key from task")]
    entries = [row[0] for row in database.connection.execute("select data from record where kind = 'task.submitted'")]
    database.close()
    told = [json.loads(str(entry))["key"] for entry in entries]
    sys.stdout.write(json.dumps({"checked": checked, "keys": keys, "told": told}))


if __name__ == "__main__":
    if sys.argv[1] == "submit":
        submit(*sys.argv[2:])
    else:
        audit(*sys.argv[2:])
