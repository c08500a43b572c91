"""Search without a database: the rollup of all items, and queries over folded copies of it.

`format` has the formats of the files, `rollup` writes them in the index process, `copies` makes and
reads a host's copy, `query` answers in request processes.
"""
