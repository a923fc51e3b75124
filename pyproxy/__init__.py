"""A load-balancing reverse proxy: asyncio, uvloop and httptools on the byte path."""

__version__ = "0.1.0"
