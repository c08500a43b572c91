"""Ends a process where tests want it: at one of its renames or unlinks."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock


class Crash(BaseException):
    """The process ends."""


@contextlib.contextmanager
def crash_at(number: int) -> Iterator[None]:
    """Ends what runs in it at the `number`th rename or unlink; none is done from then on.

    As after a real crash, what cleans up behind an error finds that it can do nothing either.
    """
    calls = itertools.count(1)

    def ending(call: Callable[..., None]) -> Callable[..., None]:
        def either(*args: Any, **kwargs: Any) -> None:
            if next(calls) >= number:
                raise Crash
            call(*args, **kwargs)

        return either

    with contextlib.ExitStack() as stack:
        for name in ("rename", "replace", "unlink", "remove"):
            stack.enter_context(mock.patch.object(os, name, ending(getattr(os, name))))
        with contextlib.suppress(Crash):
            yield
