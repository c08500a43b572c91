"""Ends a process where tests want it, and runs state machines in which that happens."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test


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


def run_machine(machine: type[RuleBasedStateMachine], examples: int) -> None:
    """Tries other examples each time."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=20,
            deadline=None,
            derandomize=False,
            report_multiple_bugs=False,
            phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )
