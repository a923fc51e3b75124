"""How a run ends: bars and failures decide, a load that could not be sent doesn't."""

from argparse import Namespace

import pytest

from bench import run, stage
from bench.report import Outcome, Result
from bench.run import Turn
from bench.scenarios import Bar, Demand, Scenario

SCENARIO = Scenario("small", "a small one", ("nginx", "pyproxy"), Demand("wrk"), bars=(Bar(1.6, "nginx"),))


def attempted(*errors: Exception | None, cpu_us: float = 10.0) -> Turn:
    """Let a contender be measured once for each of these, which is what goes wrong."""
    turn = Turn(None)  # type: ignore[arg-type]  # nobody asks who it is

    def measure(error: Exception | None) -> None:
        if error is not None:
            raise error
        turn.cell.samples.append({"cpu_us": cpu_us})

    for error in errors:
        turn.attempt(lambda error=error: measure(error))  # type: ignore[misc]
    return turn


@pytest.mark.parametrize(
    ("ours", "code"),
    [
        (attempted(None), 0),
        (attempted(None, cpu_us=17.0), 1),
        (attempted(stage.StageError("not every request was answered")), 2),
        (attempted(stage.RateNotHeld("only 90 % were sent")), 0),
        (attempted(None, stage.RateNotHeld("only 90 % were sent")), 0),
    ],
)
def test_the_exit_code(ours: Turn, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    """0 where every bar that could be judged is met, 1 where one is missed, 2 where something went wrong."""
    outcome = Outcome(SCENARIO, {"nginx": attempted(None).cell, "pyproxy": ours.cell})
    result = Result({}, {}, {}, [outcome])
    assert run.finish(result, Namespace(json=None, report=None)) == code
    said = capsys.readouterr().out
    assert ("rate not held: small, pyproxy: only 90 % were sent" in said) is ours.cell.is_rate_not_held
