"""One repository as Python sees it: volumes, bookmarks, points, import, export, check.

``repository.Repository`` is the door.
"""
