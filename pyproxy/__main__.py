"""Let ``python -m pyproxy`` be the command."""

from pyproxy.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
