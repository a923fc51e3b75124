"""What is made of samples of memory."""

from bench.memory import describe, growth

MIB = 1024 * 1024


def test_what_had_grown_is_told() -> None:
    """The highest sample counts, all processes together, and each of its parts is compared with the first."""
    samples = [
        {"supervisor, its own": 50 * MIB, "supervisor, of files": 10 * MIB},
        {"supervisor, its own": 49 * MIB, "supervisor, of files": 28 * MIB},
        {"supervisor, its own": 51 * MIB, "supervisor, of files": 11 * MIB},
    ]
    found = growth(samples, 1.0)
    assert (found["before_bytes"], found["peak_bytes"], found["growth_bytes"]) == (60 * MIB, 77 * MIB, 17 * MIB)
    assert found["grown"] == {"supervisor, its own": -MIB, "supervisor, of files": 18 * MIB}
    said = describe({"bodies": {"down": {**found, "samples": 3}}, "met": False})
    assert "where it grew most: supervisor, its own -1.00, supervisor, of files +18.00" in said
    assert said.endswith("17.00, MISSED")
