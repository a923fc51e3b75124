"""The alert rules as Prometheus' own tool reads them, and when they fire; without promtool there is nothing to ask."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.integration.nginx import require

RULES = Path(__file__).parents[2] / "config" / "prometheus-alerts.yml"

BACKEND = 'instance="lb1",pool="web",backend="a"'

# Series a minute apart for ten minutes, and which alerts that makes; `0x9` is ten times 0, `0+6x9` is 0, 6, 12…
CASES = {
    "all is well": (
        {
            f"pyproxy_backend_up{{{BACKEND}}}": "1x9",
            f'pyproxy_backend_state{{{BACKEND},state="ready"}}': "1x9",
            f'pyproxy_backend_state{{{BACKEND},state="maint"}}': "0x9",
            'pyproxy_requests_total{instance="lb1",listener="h",pool="web",code="2xx"}': "0+6000x9",
            'pyproxy_requests_total{instance="lb1",listener="h",pool="web",code="5xx"}': "0+60x9",
            f'pyproxy_backend_requests_total{{{BACKEND},code="2xx"}}': "0+6000x9",
            f"pyproxy_backend_errors_total{{{BACKEND}}}": "0+60x9",
        },
        set(),
    ),
    "the only backend is down": (
        {
            f"pyproxy_backend_up{{{BACKEND}}}": "0x9",
            f'pyproxy_backend_state{{{BACKEND},state="ready"}}': "1x9",
            f'pyproxy_backend_state{{{BACKEND},state="maint"}}': "0x9",
        },
        {"PyproxyPoolWithoutBackend", "PyproxyBackendDown"},
    ),
    "the only backend is in maintenance": (
        {
            f"pyproxy_backend_up{{{BACKEND}}}": "0x9",
            f'pyproxy_backend_state{{{BACKEND},state="ready"}}': "0x9",
            f'pyproxy_backend_state{{{BACKEND},state="maint"}}': "1x9",
        },
        {"PyproxyPoolWithoutBackend"},
    ),
    "a tenth fails": (
        {
            'pyproxy_requests_total{instance="lb1",listener="h",pool="web",code="2xx"}': "0+5400x9",
            'pyproxy_requests_total{instance="lb1",listener="h",pool="web",code="5xx"}': "0+600x9",
            f'pyproxy_backend_requests_total{{{BACKEND},code="2xx"}}': "0+5400x9",
            f'pyproxy_backend_requests_total{{{BACKEND},code="5xx"}}': "0x9",
            f"pyproxy_backend_errors_total{{{BACKEND}}}": "0+600x9",
        },
        {"PyproxyServerErrors", "PyproxyBackendErrors"},
    ),
    "few requests, all of which fail": (
        {'pyproxy_requests_total{instance="lb1",listener="h",pool="web",code="5xx"}': "0+6x9"},
        set(),
    ),
    "drained since the day before yesterday": (
        {'pyproxy_override_age_seconds{instance="lb1",target="web/a/state"}': "170000+60x9"},
        {"PyproxyForgottenOverride"},
    ),
    "what a worker and its log went through": (
        {
            'pyproxy_worker_restarts_total{instance="lb1"}': "0 0 0 1 2 3 4 4 4 4",
            'pyproxy_log_lines_dropped_total{instance="lb1"}': "0 0 0 7 7 7 7 7 7 7",
            'pyproxy_terminations_total{instance="lb1",end="RC"}': "0 0 0 0 0 0 5 5 5 5",
            'pyproxy_loop_lag_seconds{instance="lb1",worker="0"}': "0.9x9",
            'pyproxy_queue_length{instance="lb1",pool="web"}': "3x9",
        },
        {
            *("PyproxyWorkerRestarts", "PyproxyLogLinesDropped", "PyproxyOutOfConnections", "PyproxyLoopLag"),
            "PyproxyQueue",
        },
    ),
}


def run(*arguments: str | Path) -> str:
    """Run promtool, which must agree; return what it says."""
    result = subprocess.run([require("promtool"), *map(str, arguments)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_the_rules_are_rules() -> None:
    """Names, expressions, templates."""
    assert "SUCCESS" in run("check", "rules", RULES)


@pytest.mark.parametrize("case", CASES)
def test_when_they_fire(case: str, tmp_path: Path) -> None:
    """Those that should, and no others."""
    series, expected = CASES[case]
    counts = [
        {"expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}})', "eval_time": "9m", "exp_samples": [_one()]}
        for name in sorted(expected)
    ]
    total = {
        "expr": 'count(count by (alertname) (ALERTS{alertstate="firing"}))',
        "eval_time": "9m",
        "exp_samples": [{"labels": "{}", "value": len(expected)}] if expected else [],
    }
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [*counts, total],
    }
    file = tmp_path / "test.json"  # which is YAML too
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]}))
    run("test", "rules", file)


def _one() -> dict[str, Any]:
    return {"labels": "{}", "value": 1}
