"""Gunicorn reads this in a checkout, and settings from a file `.env` beside it, if there is one."""

from pathlib import Path

from lenslet.run.serving import gunicorn_settings

env_file = Path(__file__).with_name(".env")
globals().update(gunicorn_settings(str(env_file) if env_file.exists() else ""))
