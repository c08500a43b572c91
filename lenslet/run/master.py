"""What the processes of one master share: the settings, the channel of requests, and the status."""

import functools
import logging
from dataclasses import replace

from lenslet.config import Settings
from lenslet.errors import SettingError
from lenslet.index.messages import Channel
from lenslet.index.status import Status
from lenslet.run import load_settings

log = logging.getLogger("lenslet")


class Master:
    """What is made in the master, so that every process that is forked from it has it too."""

    settings: Settings  # there after the first `load`

    def __init__(self) -> None:
        self.channel = Channel()
        self.status = Status()
        self._is_loaded = False

    def load(self, env_file: str) -> Settings:
        """Loads the settings at a start, or again after a HUP.

        A wrong setting, or a lost token, ends a start, and changes nothing after a HUP. The address
        stays until the next start.
        """
        try:
            settings = load_settings(env_file)
            if self._is_loaded and self.settings.is_guarded and not settings.is_guarded:
                raise SettingError("everyone would have access now: start Lenslet anew for that")
        except SettingError as error:
            if not self._is_loaded:
                raise SystemExit(f"lenslet: {error}") from error
            log.error("the settings stay as they were: %s", error)
            return self.settings
        if self._is_loaded:
            log.info("HUP: the settings were read again, and all processes are replaced")
            host, port = self.settings.host, self.settings.port
            if (settings.host, settings.port) != (host, port):
                log.warning("HOST and PORT count from the next start")
                settings = replace(settings, host=host, port=port)
        self.settings, self._is_loaded = settings, True
        return settings


@functools.cache
def master() -> Master:
    """Returns the one of this master: it is made by the first call, before any fork."""
    return Master()
