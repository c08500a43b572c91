"""A bucket, and many hosts on it: who reads which folder, when it is listed, messages of SQS.

`host` is what the index process asks, `views` when a folder is listed because somebody looks at it,
`sqs` the messages between hosts. A single host with a folder needs nothing of this.
"""
