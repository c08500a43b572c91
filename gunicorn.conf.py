"""Gunicorn reads this in a checkout; `lenslet serve` uses the same settings without it."""

from lenslet.run.serving import gunicorn_settings

globals().update(gunicorn_settings())
