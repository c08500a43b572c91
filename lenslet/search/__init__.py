"""Search without a database: the rollup of all items, and queries over folded copies of it.

`folding` is the form of the files, `rollup` keeps them up to date in the index process, `query`
answers in request processes.
"""
