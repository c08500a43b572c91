"""Gunicorn reads this in a checkout; `lenslet serve` uses the same settings without it."""

from pathlib import Path

from lenslet.run.serving import gunicorn_settings

globals().update(gunicorn_settings(env_file=str(Path(__file__).with_name(".env"))))
