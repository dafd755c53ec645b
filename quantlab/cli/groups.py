"""A group of options is one frozen dataclass: a verb takes it as one argument, and the command line shows its fields.

typer makes an option of each parameter in the signature of a verb. `grouped` spreads the fields of a group out in that
signature, at the place of the argument, and puts them together again when the verb is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints


def grouped(verb: Callable[..., None]) -> Callable[..., None]:
    """Return a verb as typer has to see it, with the fields of its groups in place of the groups.

    Args:
        verb: A function; a keyword-only parameter annotated with a dataclass is a group. Each field of that is declared
            as an option is anywhere else: `name: Annotated[type, typer.Option(...)] = default`.

    Returns:
        The same function, called by keyword with a value for each field.

    Raises:
        ValueError: Two groups, or a group and the verb, have an option of the same name.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True, kw_only=True)
        ... class Grid:
        ...     rows: int = 1
        ...     columns: int = 2
        >>> @grouped
        ... def draw(name: str, *, grid: Grid, bold: bool = False) -> None:
        ...     print(name, grid)
        >>> signature(draw)
        <Signature (name: str, *, rows: int = 1, columns: int = 2, bold: bool = False)>
        >>> draw(name="a", rows=3, columns=4, bold=True)
        a Grid(rows=3, columns=4)
    """
    hints = get_type_hints(verb, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}

    @wraps(verb)
    def called(**words: Any) -> None:
        made = {name: _taken(words, group) for name, group in groups.items()}
        verb(**words, **made)

    parameters: list[Parameter] = []
    for parameter in signature(verb).parameters.values():
        if parameter.name in groups:
            parameters += _options(groups[parameter.name])
        else:
            parameters.append(parameter.replace(annotation=hints[parameter.name]))
    called.__signature__ = Signature(parameters)  # type: ignore[attr-defined]  # what inspect.signature looks at first
    return called


def _taken(words: dict[str, Any], group: Any) -> Any:
    """Return a group made of its fields, which are taken out of what a verb was called with."""
    return group(**{one.name: words.pop(one.name) for one in fields(group)})


def _options(group: Any) -> Iterator[Parameter]:
    """Yield a parameter for each field of a group, with a real annotation, which typer can read from anywhere."""
    hints = get_type_hints(group, include_extras=True)
    for one in fields(group):
        yield Parameter(one.name, Parameter.KEYWORD_ONLY, default=_default(one), annotation=hints[one.name])


def _default(field: Field[Any]) -> Any:
    return Parameter.empty if field.default is MISSING else field.default
