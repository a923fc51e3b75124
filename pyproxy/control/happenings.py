"""
What has happened, put into events: the words that listeners see are all chosen here.

Must not know who listens, nor cause anything: it compares, and publishes.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pyproxy.config.runtime import Backend, Pool
from pyproxy.control.events import Events
from pyproxy.control.members import Label
from pyproxy.control.overrides import SETTINGS, Override
from pyproxy.control.worker import Worker
from pyproxy.health.checks import CheckResult


def tell_change(events: Events, before: Pool, after: Pool, reason: str | None, by: str | None = None) -> None:
    """Tell how a pool's backends differ from what they were: who came, who went, and what was set."""
    _tell_coming_and_going(events, before, after, reason, by)
    old = _by_name(before)
    for backend in after.backends:
        was = old.get(backend.name)
        for setting in SETTINGS if was is not None else ():
            values = getattr(was, setting), getattr(backend, setting)
            if values[0] != values[1]:
                events.publish(
                    setting,
                    pool=after.name,
                    backend=backend.name,
                    before=values[0],
                    after=values[1],
                    reason=reason,
                    by=by,
                )


def tell_addresses(events: Events, before: Pool, after: Pool) -> None:
    """Tell which members a lookup has brought and taken away; that the others' shares change is no news."""
    _tell_coming_and_going(events, _found(before), _found(after), "DNS", None)


def tell_over(events: Events, override: Override, kind: str) -> None:
    """Tell that an override is over: ``expired``, or ``overruled`` by the file."""
    events.publish(
        kind,
        pool=override.pool,
        backend=override.backend,
        before=_shown(override.value),
        after=_shown(override.replaced),
        reason=f"{override.setting or 'the backend itself'}, set by {override.note.by}"
        + (f" ({override.note.reason})" if override.note.reason else ""),
    )


def tell_flip(events: Events, pool: str, before: Backend | None, health: str, result: CheckResult | None) -> None:
    """Tell another health of a member, with what the check found; ``before`` is the member until then."""
    if before is not None and before.health != health:
        reason = result.detail if result is not None else None
        events.publish("health", pool=pool, backend=before.name, before=before.health, after=health, reason=reason)


def tell_word(events: Events, pool: str, before: Backend | None, after: Backend | None) -> None:
    """Tell that a member is in another state, because it has asked for that itself."""
    if before is not None and after is not None and before.state != after.state:
        events.publish(
            "state", pool=pool, backend=after.name, before=before.state, after=after.state, reason="by the node"
        )


def tell_ejection(events: Events, label: Label, seconds: float, failures: str) -> None:
    """Tell that a member is passed over for a while."""
    events.publish("ejected", pool=label[0], backend=label[1], after=f"for {seconds:.3g} s", reason=failures)


def tell_return(events: Events, label: Label, reason: str) -> None:
    """Tell that a member is no longer passed over."""
    events.publish("returned", pool=label[0], backend=label[1], reason=reason)


def tell_speaker(events: Events, message: Mapping[str, Any]) -> None:
    """Tell what the speaker says of the pair: a transition, or an alarm that begins or ends."""
    reason = str(message.get("reason") or "")
    if message.get("kind") == "transition":
        events.publish("failover", before=message.get("from"), after=message.get("to"), reason=reason)
    else:
        events.publish("alarm", after="on" if message.get("on") else "off", reason=f"{message.get('name')}: {reason}")


def tell_worker(events: Events, worker: Worker | None, after: str, reason: str | None = None) -> None:
    """Tell what has become of a worker."""
    if worker is not None:
        name = f"worker {worker.slot}, pid {worker.pid}"
        events.publish("worker", after=after, reason=f"{name}: {reason}" if reason else name)


def _tell_coming_and_going(events: Events, before: Pool, after: Pool, reason: str | None, by: str | None) -> None:
    old, new = _by_name(before), _by_name(after)
    for name, backend in old.items():
        if name not in new or new[name].address != backend.address:
            events.publish("removed", pool=after.name, backend=name, before=backend.address, reason=reason, by=by)
    for name, backend in new.items():
        if name not in old or old[name].address != backend.address:
            events.publish("added", pool=after.name, backend=name, after=backend.address, reason=reason, by=by)


def _found(pool: Pool) -> Pool:
    """Leave out the names without an address."""
    return replace(pool, backends=tuple([backend for backend in pool.backends if not backend.lookup]))


def _by_name(pool: Pool) -> Mapping[str, Backend]:
    return {backend.name: backend for backend in pool.backends}


def _shown(value: object) -> str | int | None:
    """Show a whole backend, whose value is a mapping, by a word."""
    return value if isinstance(value, str | int) else "added" if value is not None else None
