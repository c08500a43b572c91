"""Search without a database: the rollup of all items, and queries over folded copies of it.

`format` has the formats of the files, `writer` writes them, `query` answers in request processes.
"""
