"""Lenslet inside another program, without gunicorn.

`settings` has the names and values of the environment variables, such as
`{"ROOT_PATH": "/srv/photos"}`; nothing is taken from the environment or a file. A wrong
value raises `lenslet.errors.SettingError`.
"""

import threading
from collections.abc import Mapping
from typing import Any

from lenslet import config
from lenslet.errors import SettingError, StorageUnavailable
from lenslet.index.loop import Loop
from lenslet.index.status import Status
from lenslet.run import FRESH_SECONDS, log_start, open_library
from lenslet.run.parts import PARTS
from lenslet.run.worker import reach
from lenslet.storage import check_settings
from lenslet.web import app
from lenslet.web.app import WSGIApp


def create_app(settings: Mapping[str, str]) -> WSGIApp:
    """Returns the WSGI application, and indexes on `WORKER_THREADS` threads of this process.

    Without `API_TOKEN` whoever reaches the program may edit tags and notes. `WEB_THREADS` is the
    number of threads of the server: three quarters of them may wait. Call this once in each
    process, after any fork. With several processes set `WORKER_THREADS=0` and run `lenslet worker`
    beside them. The threads end with the process: nothing is lost then.
    """
    checked = _checked(settings)
    library = open_library(checked, fresh_seconds=FRESH_SECONDS)
    log_start(checked, "serves")
    if not checked.worker_threads:
        return app.create_app(library, *reach(checked), PARTS)
    status = Status()
    loop = Loop(open_library(checked, patient=True), status)
    # A program that ends must not wait for it.
    threading.Thread(target=loop.run, args=(threading.Event(),), daemon=True).start()
    return app.create_app(library, loop, status, PARTS)


def index_once(settings: Mapping[str, str]) -> dict[str, Any]:
    """Indexes everything once, and returns the report that is in `_health.json`.

    Raises `lenslet.errors.StorageUnavailable` if storage goes away or is full.
    """
    library = open_library(_checked(settings), patient=True)
    library.tree.check()
    loop = Loop(library, Status())
    loop.run(threading.Event(), once=True)
    if loop.outage:
        raise StorageUnavailable(loop.outage)
    return loop.report()


def _checked(settings: Mapping[str, str]) -> config.Settings:
    for name, value in settings.items():
        if name not in config.names():
            raise SettingError(f"{name} is not a setting")
        if not isinstance(value, str):
            raise SettingError(f"{name}: must be text, not {type(value).__name__}")
        if not value and name in config.ACCESS:
            raise SettingError(f"{name} is empty: everyone would have access; or leave it out")
    return check_settings(config.settings(settings))
