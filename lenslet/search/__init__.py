"""Search without a database: the rollup of all items, and queries over folded copies of it.

`rollup` has the file formats and keeps the files up to date in the index process, `query` answers
in request processes.
"""
