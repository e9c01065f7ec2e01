"""Names of volumes and bookmarks, folded from the journal's events and kept in SQLite so that a start need not fold
again.
"""
