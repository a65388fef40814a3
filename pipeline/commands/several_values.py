"""Options that take several values after one name: ``--candidate a.npy b.npy``."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from typer.core import TyperCommand

from pipeline.system.errors import InputError


class SeveralValues(TyperCommand):
    """A command whose repeatable options also take all their values at once.

    Click has each value named: ``--candidate a.npy --candidate b.npy``. Both ways work here; values
    end at the next option, so that arguments without a name stand before the first.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Name each value of a repeatable option, then parse as usual.

        Raises:
            InputError: if one has no value: Click would take the next option for it.
        """
        repeatable = {
            name
            for option in self.params
            if getattr(option, "multiple", False)
            for name in option.opts
        }
        for option, following in pairwise([*args, "--"]):
            if option in repeatable and following.startswith("-"):
                raise InputError(f"{option}: names no file")
        named: list[str] = []
        current = None  # the option that values belong to
        for value in args:
            if value.startswith("-"):
                name = value.partition("=")[0]
                current = name if name in repeatable else None
                named.append(value)
            elif current is not None and named[-1] != current:
                named += [current, value]
            else:
                named.append(value)
        return super().parse_args(ctx, named)
