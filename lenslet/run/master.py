"""What the processes of one master share: the settings, the channel of requests, and the status."""

import functools

from lenslet.config import Settings
from lenslet.errors import SettingError
from lenslet.index.messages import Channel
from lenslet.index.status import Status
from lenslet.run import load_settings


class Master:
    """What is made in the master, so that every process that is forked from it has it too."""

    settings: Settings  # there after the first `load`

    def __init__(self) -> None:
        self.channel = Channel()
        self.status = Status()

    def load(self, env_file: str) -> Settings:
        """Loads the settings at the start: they stay the same until the service is started anew."""
        if not hasattr(self, "settings"):
            try:
                self.settings = load_settings(env_file)
            except SettingError as error:
                raise SystemExit(f"lenslet: {error}") from error
        return self.settings


@functools.cache
def master() -> Master:
    """Returns the one of this master: it is made by the first call, before any fork."""
    return Master()
