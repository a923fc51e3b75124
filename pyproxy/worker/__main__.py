"""Let ``python -m pyproxy.worker FD`` be a worker."""

from pyproxy.worker.main import main

if __name__ == "__main__":
    raise SystemExit(main())
