"""Indexing: finds what changed, reads images, keeps manifests, and tells search and health.

The unit of work is the folder. `queue` says what is due, `loop` does it on threads, `folders` runs
the indexing of one folder and remembers what it found, `look` compares a folder with its manifest,
`read` reads its images. Request processes use `queue` to send jobs, and `status`, the shared memory
in which the index process reports.
"""
