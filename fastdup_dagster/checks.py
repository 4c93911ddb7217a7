"""Checks of single arguments of the V1 face: each error names the argument and what was given."""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Iterable
from typing import Any


def flag(name: str, value: object, optional: bool = False) -> Any:
    """`value` as True or False; None passes if it is optional.

    Raises:
        TypeError: for anything but a boolean, 0 or 1.
    """
    if optional and value is None:
        return None
    # numpy's booleans count too
    plain: Any = value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value
    if not isinstance(plain, bool | int | float) or plain not in (0, 1):
        raise TypeError(f"{name}={value!r}: expected True or False")
    return bool(plain)


def whole(name: str, value: Any, least: int, optional: bool = False) -> Any:
    """`value` as an integer of at least `least`; None passes if it is optional.

    Raises:
        TypeError: for what is no integer.
        ValueError: for one that is too small.
    """
    if optional and value is None:
        return None
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}={value!r}: expected a whole number") from None
    if isinstance(value, bool):
        raise TypeError(f"{name}={value!r}: expected a whole number")
    if number < least:
        raise ValueError(f"{name}={value!r}: must be at least {least}")
    return number


def finite(name: str, value: Any) -> float:
    """`value` as a float.

    Raises:
        TypeError: for what is no number.
        ValueError: for NaN or an infinity.
    """
    if isinstance(value, str | bool) or not hasattr(value, "__float__"):
        raise TypeError(f"{name}={value!r}: expected a number")
    if not math.isfinite(number := float(value)):
        raise ValueError(f"{name}={value!r}: must be finite")
    return number


def choice(name: str, value: object, known: Iterable[str]) -> str:
    """`value`, if it is one of the known ones.

    Raises:
        TypeError: for what is no text.
        ValueError: for an unknown one, with the nearest known one.
    """
    options = list(known)
    if not isinstance(value, str):
        raise TypeError(f"{name}={value!r}: expected one of {', '.join(options)}")
    if value not in options:
        near = difflib.get_close_matches(value, options, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(options)}"
        raise ValueError(f"{name}={value!r}: {hint}")
    return value
