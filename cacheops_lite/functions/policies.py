"""Policies: a result that hangs on the objects of which a predicate says yes.

``on_change(Post, when=lambda post: post.featured)`` is a sample for ``cached_as`` beside models and
querysets. The process that writes asks the predicate, about the row before the write and about the
row after it, as the database holds them; a yes to either drops the result.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.db import models

from ..orm import predicates
from .calls import Unstable, digest, function_name, spell

__all__ = ["on_change"]


@dataclass(frozen=True)
class Policy:
    """One model, and the column that its predicate has become; none for any row."""

    model: type[models.Model]
    column: str | None


def on_change(*changed: Any, when: Callable[[Any], object] | None = None) -> tuple[Policy, ...]:
    """A sample for ``cached_as``: changes of these models, or of the objects that ``when`` takes.

    ``when`` is a plain function of one object. It may look at the object's own columns only; what
    else the result depends on must be a sample of its own. A write without an object in reach
    (bulk writes past ``CACHEOPS_LOOKUP_LIMIT``, raw SQL, an object that ``invalidate_obj`` is
    given) counts as a yes, and so does a predicate that raises. A process that has not imported
    the predicate drops every result of the table when it writes: let the module of the model, or
    an ``AppConfig.ready``, import it. Raises ``TypeError``.
    """
    for model in changed:
        if not (isinstance(model, type) and issubclass(model, models.Model)):
            raise TypeError(f"on_change takes models, not {model!r}.")
    if not changed:
        raise TypeError("on_change needs one model at least, whose changes count.")
    if when is None:
        return tuple(Policy(model, None) for model in changed)
    name = _name(when)
    return tuple(
        Policy(model, predicates.register(digest([name, model._meta.label]), model, when))
        for model in changed
    )


def _name(when: Any) -> str:
    """What the predicate is called in every process that has this very code."""
    if not inspect.isfunction(when) or iscoroutinefunction(when):
        raise TypeError(f"when=… is a plain function of one object, not {when!r}.")
    try:
        around = [cell.cell_contents for cell in when.__closure__ or ()]
        given = spell([around, when.__defaults__, when.__kwdefaults__])
    except (Unstable, ValueError) as error:
        raise TypeError(
            f"{function_name(when)} cannot be a predicate: what it takes from the function around "
            f"it has no stable text. {error}"
        ) from error
    return digest([function_name(when), given, *_code(when.__code__)])


def _code(code: CodeType) -> list[str]:
    """Texts that differ where two versions of a function do."""
    texts = [code.co_code.hex(), spell(code.co_names)]
    for const in code.co_consts:
        if isinstance(const, CodeType):
            texts += _code(const)
        elif const is ...:
            texts.append("...")
        else:
            plain = isinstance(const, complex | float | slice)
            texts.append(repr(const) if plain else spell(const))
    return texts
