"""HTTP: one resource class per endpoint, which parses a request and shapes the answer.

`app` has the routes and the table of errors, `common` what the resources share.
"""
