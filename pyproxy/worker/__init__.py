"""One data-plane process put together; never imports aiohttp, pydantic or yaml."""
