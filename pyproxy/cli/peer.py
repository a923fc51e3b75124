"""
``pyproxy peer``: the two machines of a failover pair, for people, scripts and monitoring.

Must not know how the program is reached. A simulation runs here, on the facts that the program gives: it costs the
speaker nothing.
"""

import json
from argparse import Namespace
from typing import Any
from urllib.parse import quote

from pyproxy.cli.api import AdminApi, ApiError
from pyproxy.cli.result import Result
from pyproxy.cli.table import align
from pyproxy.errors import PyproxyError

View = dict[str, Any]  # the shapes are in admin.pair

OK, WARNING, CRITICAL, UNKNOWN = 0, 1, 2, 3
_WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")

#: Alarms under which clients may get nothing, or the wrong machine.
CRITICAL_ALARMS = frozenset({"dual_master", "address_conflict", "speaker", "fence", "no_master", "stray_address"})

#: Reasons to drop an advert that say nothing of this pair: our own, and those of other pairs.
HARMLESS = frozenset({"own", "other_vrid"})

_PATH = "/api/v1/peer"
_SPARE_SECONDS = 10.0  # that a hand-over may take beyond the grace


def peer(api: AdminApi, arguments: Namespace) -> Result:
    """Do what is asked about the pair."""
    match arguments.action:
        case "handover":
            return _handover(api, arguments)
        case "diff":
            return _diff(api, arguments)
        case "simulate":
            return _simulate(api, arguments)
    if arguments.check:
        return check(api, arguments)
    view = api.ask("GET", _PATH)
    return Result(json.dumps(view, indent=2) if arguments.json else describe(view))


def check(api: AdminApi, arguments: Namespace) -> Result:
    """Say in one line, and by the exit code, how the pair is, as monitoring plugins do."""
    try:
        view = api.ask("GET", _PATH)
    except ApiError as error:
        code = UNKNOWN if error.is_answer else CRITICAL
        return Result(f"PYPROXY {_WORDS[code]} - {error}", code=code)
    code, text = judge(view)
    measured = f"dual_master_seconds={view['dual_master_seconds']:g}s drift={len(view['drift'])}"
    line = f"PYPROXY {_WORDS[code]} - {text} | {measured}"
    shown = json.dumps({"code": code, "status": _WORDS[code], "text": text, "peer": view}, indent=2)
    return Result(shown if arguments.json else line, code=code)


def judge(view: View) -> tuple[int, str]:
    """Weigh everything that is wrong, and name the worst of it first."""
    found: list[tuple[int, str]] = []
    if view["state"] == "fault":
        found.append((CRITICAL, f"fault: {view['reason']}"))
    if view["state"] == "init":
        found.append((WARNING, f"begins: {view['reason']}" if view["reason"] else "begins"))
    if view["state"] == "master" and not view["vip_present"]:
        found.append((CRITICAL, "master without its addresses"))
    for alarm in view["alarms"]:
        level = CRITICAL if alarm["name"] in CRITICAL_ALARMS else WARNING
        found.append((level, f"{alarm['name']}: {alarm['text']}"))
    found += [(WARNING, f"guard {_failure(guard)}") for guard in view["guards"] if guard["ok"] is False]
    # Clients of a master get what fails; a backup may be well again when it is needed.
    level = CRITICAL if view["state"] == "master" else WARNING
    found += [(level, f"track {_failure(track)}") for track in view["tracks"] if track["ok"] is False]
    if view["gateway"] is False:
        found.append((WARNING, "the gateway doesn't answer"))
    found += [(WARNING, f"witness {_failure(each)}") for each in view["witness_states"] if each["ok"] is False]
    found += [(WARNING, text) for text in _peer_problems(view)]
    if not found:
        return OK, f"{view['state']}, {_peer_text(view)}"
    found.sort(key=lambda item: -item[0])
    texts = "; ".join(text for _, text in found)
    return found[0][0], texts if view["state"] == "fault" else f"{view['state']}; {texts}"


def describe(view: View) -> str:
    """Write the pair down for people."""
    witnesses = view["witness_states"]
    rows = [
        ("state", f"{view['state']} since {view['since']}" + _because(view["reason"])),
        ("addresses", f"{', '.join(view['virtual_ips'])}, {'here' if view['vip_present'] else 'not here'}"),
        ("told", "never" if view["age"] is None else f"{view['age']:.1f} s ago by the speaker"),
        ("router", f"vrid {view['vrid']}, priority {view['priority']}, last advert {view['last_advert'] or 'never'}"),
        ("peer", _peer_text(view)),
        ("link", _link_text(view["link"])),
        ("gateway", _reached(view["gateway"])),
        *[("witness", f"{each['name']}: {_reached(each['ok'])} {_said(each)}".rstrip()) for each in witnesses],
        ("drift", ", ".join(view["drift"]) or "none"),
    ]
    if view["kept"]:
        rows.append(("kept", f"without effect here: {', '.join(view['kept'])}"))
    for kind in ("guard", "track"):
        rows += [(kind, f"{item['name']}: {_verdict(item['ok'])} {_said(item)}".rstrip()) for item in view[f"{kind}s"]]
    dropped = [f"{count} adverts for {why}" for why, count in sorted(view["dropped"].items()) if why not in HARMLESS]
    if dropped:
        rows.append(("dropped", ", ".join(dropped)))
    if view["dual_master_seconds"]:
        rows.append(("two masters", f"for {view['dual_master_seconds']:.3g} s"))
    if view["handover"]:
        rows.append(("hand-over", "on its way"))
    rows += [("ALARM", f"{item['name']} since {item['since']}: {item['text']}") for item in view["alarms"]]
    past = [(f"  {item['at']}", f"{item['from']} -> {item['to']}", item["reason"]) for item in view["transitions"][-8:]]
    return "\n".join([*align(rows), *(["transitions", *align(past)] if past else [])])


def _handover(api: AdminApi, arguments: Namespace) -> Result:
    body = {"reason": arguments.reason} if arguments.reason is not None else {}
    answer = api.ask("POST", f"{_PATH}/handover", body, patience=arguments.grace + _SPARE_SECONDS)
    if arguments.json:
        return Result(json.dumps(answer, indent=2))
    reset = f", {answer['reset']} connections were reset" if answer["reset"] else ""
    return Result(f"handed over in {answer['duration']:.3g} s{reset}: this machine is {answer['state']}")


def _diff(api: AdminApi, arguments: Namespace) -> Result:
    answer = api.ask("GET", f"{_PATH}/diff")
    text = json.dumps(answer, indent=2) if arguments.json else answer["diff"].rstrip("\n") or "no difference"
    # As diff(1): 1 says that there is a difference.
    return Result(text, code=1 if answer["drift"] else 0)


def _simulate(api: AdminApi, arguments: Namespace) -> Result:
    from pyproxy.failover.settings import from_plain  # noqa: PLC0415 - not needed by the other verbs
    from pyproxy.failover.simulate import BACKEND, check_failure, simulate  # noqa: PLC0415 - as above
    from pyproxy.failover.takeover import Facts, peer_from_plain  # noqa: PLC0415 - as above

    for fail in arguments.fail:
        if problem := check_failure(fail):
            raise ApiError(problem, is_usage=True)
        if fail.startswith(BACKEND):
            pool, name = (quote(part, safe="") for part in fail.removeprefix(BACKEND).split("/", 1))
            api.ask("GET", f"/api/v1/pools/{pool}/backends/{name}")  # raises if there is no such backend
    given, state = api.ask("GET", f"{_PATH}/facts"), api.ask("GET", _PATH)["state"]
    try:
        theirs = from_plain(given["peer_settings"]) if given["peer_settings"] else None
        plain = given["facts"]
        sources = {int(family): address for family, address in plain["sources"].items()}
        heard = peer_from_plain(plain["peer"]) if plain["peer"] else None
        settings, facts = from_plain(given["settings"]), Facts(**{**plain, "sources": sources, "peer": heard})
        reports = [simulate(settings, facts, fail, state=state, peer_settings=theirs) for fail in arguments.fail]
    except (KeyError, TypeError, ValueError, PyproxyError) as error:
        raise ApiError(f"the speaker's facts can't be used: {error!r}") from error
    if arguments.json:
        return Result(json.dumps(reports if len(reports) > 1 else reports[0], indent=2))
    return Result("\n\n".join("\n".join(report["lines"]) for report in reports))


def _peer_problems(view: View) -> list[str]:
    found, machine = [], view["peer"]
    if view["link"] is not None and machine["link"] == "down":
        fault = view["link"]["fault"]
        found.append(f"the link to the peer is down: {fault}" if fault else "the link to the peer is down")
    elif view["link"] is not None and machine["state"] == "fault":
        found.append(f"the peer is in fault{_because(machine['reason'])}")
    elif view["link"] is not None and machine["well"] is False:
        found.append(f"the peer is not fit{_because(machine['reason'])}")
    elif view["link"] is not None and view["state"] == "master" and machine["state"] == "init":
        found.append("there is no standby: the peer has only begun")
    if view["drift"]:
        found.append(f"the files differ in {', '.join(view['drift'])}")
    return found


def _peer_text(view: View) -> str:
    machine = view["peer"]
    address = machine["address"] or "peer"
    if machine["state"] is None:
        return f"{address}, last heard {machine['heard'] or 'never'}"
    healthy = machine["healthy_backends"]
    parts = [f"{address} is {machine['state']}{_because(machine['reason'])}"]
    parts += ["released"] if machine["released"] else []
    parts += [f"sees {healthy} healthy backends"] if healthy is not None else []
    return ", ".join(parts) + (" (its last word: the link is down)" if machine["link"] == "down" else "")


def _link_text(link: View | None) -> str:
    if link is None:
        return "none"
    age = f", heard {link['heard_age']:.3g} s ago" if link["heard_age"] is not None else ""
    refused = ", ".join(f"{count} x {reason}" for reason, count in link["refused"].items())
    return f"{link['state']}{age}, {'speaking' if link['speaking'] else 'not speaking'}" + (
        f", refused: {refused}" if refused else ""
    )


def _failure(item: View) -> str:
    """Say what fails, why, and since when that is known."""
    return f"{item['name']} fails: {_said(item)}"


def _said(item: View) -> str:
    age = "" if item["age"] is None else f"{item['age']:.0f} s ago"
    detail = item["detail"] if item["detail"] != "ok" else ""
    return f"{detail} ({age})" if detail and age else detail or (f"({age})" if age else "")


def _reached(answer: bool | None) -> str:
    return "not asked" if answer is None else "answers" if answer else "doesn't answer"


def _verdict(ok: bool | None) -> str:
    return "has not run yet" if ok is None else "ok" if ok else "FAILS"


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""
