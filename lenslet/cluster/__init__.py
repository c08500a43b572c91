"""Many hosts on a bucket: which of them reads a folder (`host`), messages of SQS (`sqs`).

A single host with a folder needs nothing of this.
"""
