"""Pages from the templates that ship: HTML that needs nothing from elsewhere, all text escaped."""

from __future__ import annotations

from typing import Any

__all__ = ["render"]


def render(template: str, **values: Any) -> str:
    """The page that a template in `data/` makes of values.

    Args:
        template: Its file, such as `report.html.j2`; it may include others beside it.
        values: What it shows. A value that it names and that is not given is an error.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(
        loader=PackageLoader("versecraft", "data"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return pages.get_template(template).render(values)
