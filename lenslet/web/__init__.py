"""HTTP: one resource class per endpoint, which parses a request and shapes the answer.

`app` has the routes and answers errors, `access` decides who may, `common` has what all share.
"""
