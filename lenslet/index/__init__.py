"""Indexing: finds what changed, reads images, writes manifests, and updates search and health.

`loop` is one thread that owns all state and takes `messages`. `walk` decides which folder is looked
at and which images are read, `upkeep` when to scan and to write search and health, `work` is what
they ask for, `record` what is remembered. Functions on other threads do what blocks: `folders`
looks at one folder (with `sidecars` and the pure `compare`), `read` reads one of the `images` that
wait, `scan` finds what may have changed, `summary` writes what search and health read, `moves` lets
sidecars follow their photos. What the loop reports is in the shared memory `status`.
"""
