"""
What every section of the configuration model has in common.

Must not know any section.
"""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A mapping in lb.yml: frozen, strict about types, without unknown keys."""

    # The validators are built once, with the root: half the time that importing the model would take.
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", defer_build=True, hide_input_in_errors=True)
