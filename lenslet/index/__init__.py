"""Indexing: finds what changed, reads images, keeps manifests, and tells search and health.

The unit of work is the folder. `queue` says what is due, `loop` does it on threads, `folders` runs
the indexing of one folder (`look` sees what it holds, `compare` decides what its manifest should
be, `read` reads its images), `records` keeps what is known of each
folder. Request processes use `queue` to send jobs,
and `status`, the shared memory in which the index process reports.
"""
