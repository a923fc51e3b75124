"""What is made of a generator's end; what it says is for the tests of the generators."""

import sys

import pytest

from bench import load, stage


@pytest.mark.parametrize(("code", "kind"), [(stage.RATE_NOT_HELD, stage.RateNotHeld), (2, stage.StageError)])
def test_why_a_generator_failed(code: int, kind: type[Exception]) -> None:
    """Its exit code tells a rate that was not held from everything else."""
    script = f"import sys; print('the reason', file=sys.stderr); sys.exit({code})"
    with pytest.raises(stage.StageError, match="the reason") as caught:
        load._run([sys.executable, "-c", script], 5.0, 0)
    assert type(caught.value) is kind


@pytest.mark.parametrize(("error", "code"), [(stage.RateNotHeld("x"), stage.RATE_NOT_HELD), (stage.StageError("x"), 2)])
def test_a_script_tells_why(error: Exception, code: int) -> None:
    """The other end of the same."""

    def main() -> int:
        raise error

    with pytest.raises(SystemExit) as caught:
        stage.run(main)
    assert caught.value.code == code
