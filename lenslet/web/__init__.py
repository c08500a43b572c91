"""HTTP: one resource class per endpoint, which parses a request and shapes the answer.

`app` has the routes and answers errors, `access` decides who may. What resources share: `service`
with `images` and their sidecars, `jobs` for the index process and `waiters` for what it makes;
`parameters` parses requests, `answers` shapes what is sent.
"""
