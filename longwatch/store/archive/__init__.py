"""The archive: what leaves the state for files that any program can read. Knows files, and nothing of the state's tables.

entry.py one line; frames.py a file of them; manifest.py the chained list of files; places.py where they lie; bucket.py in S3;
archive.py writes, reads and changes; index.py, grams.py, search.py and recall.py find; verification.py compares with what was
written; parquet.py exports. obstore and pyarrow are imported where they are needed, and nowhere else.
"""

from longwatch.store.archive.archive import Archive
from longwatch.store.archive.entry import Entry, Kind
from longwatch.store.archive.finding import Finding
from longwatch.store.archive.manifest import Manifest, Move, Segment
from longwatch.store.archive.places import Folder, Place

__all__ = ["Archive", "Entry", "Finding", "Folder", "Kind", "Manifest", "Move", "Place", "Segment"]
