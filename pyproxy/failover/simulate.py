"""
What would happen if: the real machines on the present facts, with one thing broken.

Must not know the network; nothing here is sent. Of the other machine only what the link and its adverts tell is
known, and what is taken for granted instead is part of the answer.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from pyproxy.failover import timing
from pyproxy.failover.settings import Settings
from pyproxy.failover.takeover import Facts, PeerFacts
from pyproxy.failover.world import World

FAILURES = ("local", "peer", "link", "gateway", "workers")
BACKEND = "backend:"

LOCAL, PEER = "local", "peer"
_LATENCY = 0.0005
_LEAST_STEP = 0.002
_WATCHED = 60.0  # seconds, at least, that are looked at
_OTHER = {LOCAL: PEER, PEER: LOCAL}
_WHAT = {
    "local": "this machine loses its power",
    "peer": "the other machine loses its power",
    "link": "the link between the machines is cut",
    "gateway": "this machine doesn't reach its gateway any more",
    "workers": "no worker of this machine is ready any more",
}


@dataclass(slots=True)
class _Scene:
    """Both machines in their present states."""

    world: World
    assumed: list[str] = field(default_factory=list)
    began: float = 0.0


def check_failure(fail: str) -> str:
    """Say what is wrong with the name of a failure, empty if nothing is."""
    if fail in FAILURES:
        return ""
    pool, slash, name = fail.removeprefix(BACKEND).partition("/")
    if fail.startswith(BACKEND) and pool and slash and name:
        return ""
    return f"unknown failure {fail!r}; there are {', '.join(FAILURES)} and {BACKEND}POOL/NAME"


def simulate(
    settings: Settings, facts: Facts, fail: str, *, state: str, peer_settings: Settings | None = None
) -> dict[str, Any]:
    """
    Say who would have the addresses after a failure, after how long, and why.

    ``state`` is that of this machine. Without ``peer_settings`` the other machine is taken to have ours, with the
    priority that the link tells. A backend that fails does so for both machines. Raises ``ValueError`` for an
    unknown failure.

    The answer has ``fail``, ``before`` and ``holder`` (``local``, ``peer``, ``both`` or ``nobody``), ``changes``
    (whether these differ), ``after`` (seconds until the last change), ``gap`` and ``overlap`` (seconds in which
    nobody, or both, had the addresses), ``reason``, ``steps``, ``alarms``, ``assumed`` and ``lines`` for people.
    """
    problem = check_failure(fail)
    if problem:
        raise ValueError(problem)
    scene = _set_up(settings, facts, state, peer_settings)
    before = _holder(scene.world)
    _break(scene, fail)
    watched = _watch(scene, settings)
    return _report(scene, fail, before, watched)


def _set_up(settings: Settings, facts: Facts, state: str, peer_settings: Settings | None) -> _Scene:
    peer = facts.peer if facts.link != "none" else None
    scene = _Scene(World(lambda *_: (_LATENCY,), lambda *_: _LATENCY, dict(_OTHER) if facts.link == "up" else {}))
    other = _suppose_peer(scene, settings, state, peer) if peer is None or facts.link != "up" else peer
    theirs = peer_settings or replace(settings, priority=other.priority)
    if peer_settings is None:
        scene.assumed.append(f"the other machine has our settings, with priority {other.priority}")
    scene.world.add(LOCAL, _without_delays(settings), _local_facts(settings, facts))
    scene.world.add(PEER, _without_delays(theirs), _peer_facts(settings, facts, other))
    for name, now in ((LOCAL, state), (PEER, other.state)):
        if now == "master":
            scene.world.start(name, adopt=True)
    for name, now in ((LOCAL, state), (PEER, other.state)):
        if now in ("backup", "fault"):
            scene.world.start(name)
    scene.world.run(2 * max(map(_longest_silence, (settings, theirs))))
    for name, node in scene.world.nodes.items():
        node.settings = settings if name == LOCAL else theirs
        if node.machine:
            node.machine.settings = node.settings
    _run_to_advert(scene.world, max(settings.advert_interval, theirs.advert_interval))
    scene.began = scene.world.now
    return scene


def _run_to_advert(world: World, interval: float) -> None:
    """Let the failure come right after an advert, which is when it takes longest to be noticed."""
    heard, latest = len(world.adverts), world.now + 2 * interval
    while len(world.adverts) == heard and world.now < latest:
        world.run(world.now + _LEAST_STEP)


def _without_delays(settings: Settings) -> Settings:
    return replace(settings, startup_delay=0.0, link_up_delay=0.0)


def _longest_silence(settings: Settings) -> float:
    return timing.down_interval(settings.version, 1, settings.advert_interval, settings.down_adverts)


def _suppose_peer(scene: _Scene, settings: Settings, state: str, peer: PeerFacts | None) -> PeerFacts:
    """Think of the other machine what isn't told."""
    theirs = "backup" if state == "master" else "master"
    scene.assumed.append(f"the other machine is {theirs}; no link says so")
    priority = peer.priority if peer else settings.priority
    return PeerFacts(state=theirs, priority=priority, well=True, gateway=None)


def _local_facts(settings: Settings, facts: Facts) -> Facts:
    sources = {family: "192.0.2.1" if family == 4 else "fe80::1" for family in settings.families}
    return replace(facts, sources=facts.sources or sources, gateway_at=None)


def _peer_facts(settings: Settings, facts: Facts, peer: PeerFacts) -> Facts:
    own = set(facts.sources.values())
    told = {6 if ":" in source else 4: source for source in sorted(peer.sources - own)}
    sources = {family: told.get(family, "192.0.2.2" if family == 4 else "fe80::2") for family in settings.families}
    return Facts(
        sources=sources,
        gateway=peer.gateway,
        witnesses=peer.witnesses,
        guards="ok" if peer.well else "refuse" if peer.state == "fault" else "last_resort",
        guard_reason="" if peer.well else peer.reason,
        healthy_backends=peer.healthy_backends,
        link=facts.link,
        peer=None,
    )


def _break(scene: _Scene, fail: str) -> None:
    world = scene.world
    local, peer = world.nodes[LOCAL], world.nodes[PEER]
    if fail in (LOCAL, PEER):
        _cut_power(scene, fail)
    elif fail == "link":
        for name in (LOCAL, PEER):
            _cut_link(scene, name)
        if local.facts.link == "none":
            scene.assumed.append("there is no link that could be cut")
    elif fail == "gateway":
        _lose_gateway(scene)
    elif fail == "workers":
        if local.facts.ready_workers is None:
            scene.assumed.append("there is no proxy beside this speaker, so it knows of no workers")
        else:
            local.facts.ready_workers = 0
        world.reconsider(LOCAL)
    else:
        for node in (local, peer):
            if node.facts.healthy_backends:
                node.facts.healthy_backends -= 1
            world.reconsider(node.name)


def _lose_gateway(scene: _Scene) -> None:
    """Let this machine find out as slowly as it may; the other one goes on asking, and being answered."""
    world = scene.world
    local, peer = world.nodes[LOCAL], world.nodes[PEER]
    if local.settings.gateway == "off":
        scene.assumed.append("the gateway isn't asked, so nothing is noticed")
        return
    if peer.facts.gateway is None and local.facts.gateway and local.facts.link != "up":
        scene.assumed.append("no link tells whether the other machine reaches its gateway")
    pause = timing.question_interval(_down_interval(local.settings))

    def lose() -> None:
        local.facts.gateway = False
        world.reconsider(LOCAL)

    def answer() -> None:
        peer.facts.gateway_at = world.now
        world.at(world.now + pause, answer)

    world.at(world.now + (timing.GATEWAY_QUESTIONS + 1) * pause, lose)
    if peer.facts.gateway:
        answer()


def _down_interval(settings: Settings) -> float:
    return timing.down_interval(settings.version, settings.priority, settings.advert_interval, settings.down_adverts)


def _cut_power(scene: _Scene, name: str) -> None:
    scene.world.kill(name, is_power_cut=True)
    _cut_link(scene, _OTHER[name])


def _cut_link(scene: _Scene, name: str) -> None:
    node = scene.world.nodes[name]
    if node.facts.link == "up":
        dead_time = node.settings.link.dead_time if node.settings.link else 0.0
        scene.world.cut_link(name, scene.world.now + dead_time)


@dataclass(slots=True)
class _Watched:
    """What was seen: when the holder changed last, and how long there was none or were two."""

    changed: float = 0.0
    gap: float = 0.0
    overlap: float = 0.0


def _watch(scene: _Scene, settings: Settings) -> _Watched:
    """Let time pass until nothing more is to be expected, looking at every moment at which something happens."""
    world, seen = scene.world, _Watched()
    delays = settings.split_hold + settings.preempt_delay + settings.link_up_delay
    horizon = max(_WATCHED, delays + 4 * _longest_silence(settings))
    step = min(max(settings.advert_interval / 20, _LEAST_STEP), 0.01)
    holder, now = _holder(world), scene.began
    while now < scene.began + horizon:
        now += step
        world.run(now)
        current = _holder(world)
        seen.gap += step if current == "nobody" else 0.0
        seen.overlap += step if current == "both" else 0.0
        if current != holder:
            holder, seen.changed = current, now - scene.began
    return seen


def _holder(world: World) -> str:
    holders = world.holders()
    return "both" if len(holders) > 1 else holders[0] if holders else "nobody"


def _report(scene: _Scene, fail: str, before: str, watched: _Watched) -> dict[str, Any]:
    world = scene.world
    steps = [step for step in world.steps if step.at >= scene.began]
    holder = _holder(world)
    taken = [step for step in steps if step.name == holder and step.state == "master"]
    last = taken[-1] if taken else None
    after = last.at - scene.began if last else watched.changed
    reason = last.reason if last else _why_nothing_changes(world, holder)
    alarms = sorted({name for node in world.nodes.values() for name in node.alarms})
    report: dict[str, Any] = {
        "fail": fail,
        "before": before,
        "holder": holder,
        "changes": holder != before,
        "after": round(after, 3),
        "gap": round(watched.gap, 3),
        "overlap": round(watched.overlap, 3),
        "reason": reason,
        "steps": [
            {
                "at": round(step.at - scene.began, 3),
                "machine": step.name,
                "from": step.before.value,
                "to": step.state.value,
                "reason": step.reason,
            }
            for step in steps
        ],
        "alarms": alarms,
        "assumed": scene.assumed,
    }
    return {**report, "lines": _lines(report)}


def _why_nothing_changes(world: World, holder: str) -> str:
    """Let the machine that doesn't take the addresses say why."""
    others = [node.machine for name, node in world.nodes.items() if name != holder and node.machine]
    if holder == "nobody" and others:
        return "; ".join(machine.reason for machine in others)
    held = [machine.reason for machine in others if machine.alarms or machine.state == "fault"]
    return held[0] if held else "that is no reason to move them"


def _lines(report: dict[str, Any]) -> list[str]:
    """Say it for people."""
    fail = report["fail"]
    what = _WHAT.get(fail, f"backend {fail.removeprefix(BACKEND)} fails")
    who = {LOCAL: "this machine", PEER: "the other machine", "both": "both machines", "nobody": "nobody"}
    lines = [f"If {what}:"]
    if report["changes"]:
        lines.append(
            f"  {who[report['holder']]} has the addresses after {report['after']:.3f} s ({report['reason']}); "
            f"before, it was {who[report['before']]}"
        )
    else:
        lines.append(f"  {who[report['holder']]} keeps the addresses ({report['reason']})")
    if report["gap"]:
        lines.append(f"  nobody has them for {report['gap']:.2f} s")
    if report["overlap"]:
        lines.append(f"  both have them for {report['overlap']:.2f} s")
    lines += [
        f"  {step['at']:8.3f} s  {step['machine']:5}  {step['from']} → {step['to']}: {step['reason']}"
        for step in report["steps"]
    ]
    if report["alarms"]:
        lines.append(f"  alarms: {', '.join(report['alarms'])}")
    lines += [f"  taken for granted: {text}" for text in report["assumed"]]
    return lines
