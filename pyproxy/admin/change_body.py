"""What comes in to change a backend or to add one. Must not know what is done with it."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pyproxy.config.model_pool import Backend
from pyproxy.config.values import YEAR, duration, text

SETTINGS = ("state", "weight", "max_conns")

Reason = Annotated[str, text("text", most=256)]
Expires = Annotated[float, duration(0.1, YEAR)]


class Why(BaseModel):
    """What may be said about any change."""

    reason: Reason | None = Field(None, description="Why, for whoever looks later.")
    expires: Expires | None = Field(
        None, description="How long it holds, such as 30m, or a number of seconds; null: until it is taken back."
    )
    pinned: bool = Field(False, description="Whether it holds even if the file says something else later.")


class HandoverBody(BaseModel):
    """What may be said about a hand-over."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    reason: Reason | None = Field(None, description="Why, for the log of both machines.")


class BackendChange(Why):
    """What ``PATCH`` takes; of ``state``, ``weight`` and ``max_conns`` null is what the file says."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    state: Literal["ready", "drain", "maint"] | None = None
    weight: Annotated[int, Field(ge=0, le=256)] | None = None
    max_conns: Annotated[int, Field(ge=0, le=1_000_000)] | None = None

    @model_validator(mode="after")
    def _changes_something(self) -> "BackendChange":
        if not self.values():
            raise ValueError(f"must have one of {', '.join(SETTINGS)}")
        return self

    def values(self) -> dict[str, Any]:
        """Give the settings that are there."""
        return {name: getattr(self, name) for name in SETTINGS if name in self.model_fields_set}


class NewBackend(Backend, Why):
    """What ``POST`` takes: a backend as in the file."""

    @model_validator(mode="after")
    def _is_whole(self) -> "NewBackend":
        if self.address.is_unix and "name" not in self.model_fields_set:
            raise ValueError("name: is missing; a unix address needs a name")
        if self.srv and self.address.has_port:
            raise ValueError("address: must be a name without a port with srv: true; the SRV records have the ports")
        if not self.srv and not self.address.has_port:
            raise ValueError("address: must have a port; only one with srv: true has none")
        return self
