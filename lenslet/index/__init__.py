"""Indexing: finds what changed, reads images, writes manifests, and updates search and health.

The unit of work is the folder. `queue` says what is due, `loop` does it on threads (`work`),
`folders` indexes one folder: `look` sees what is in it, `sidecars` reads those that changed,
`compare` decides what the manifest says, `runs` has those whose images are read, `records` what is
remembered. `read` reads images, `scan` finds what may have changed, `moves` lets sidecars follow
their photos, `summary` writes what search and health read, `claims` says which of several hosts
reads a folder. Request processes enqueue jobs, and read `status`, the shared memory in which this
reports.
"""
