"""
The admin API on the address that the file gives it.

Must not know what is served.
"""

import logging
from contextlib import AsyncExitStack

from aiohttp import web

from pyproxy.admin.server import BACKLOG, AdminServer, bind_tcp
from pyproxy.control.listeners import explain
from pyproxy.control.settings import AdminSettings
from pyproxy.control.startup import StartError
from pyproxy.control.unix_sockets import bind_unix

MODE = 0o660  # of a unix socket: for owner and group

_log = logging.getLogger(__name__)


async def open_admin(admin: AdminSettings, app: web.Application, cleanup: AsyncExitStack) -> None:
    """Serve until ``cleanup`` closes it; ``StartError`` if the address can't be had."""
    unix = bind_unix(admin.path, BACKLOG, MODE) if admin.path else None
    try:
        sock = unix.sock if unix else bind_tcp(admin.host, admin.port)
    except OSError as error:
        raise StartError(f"can't listen on {admin.address} (admin): {explain(error)}") from error
    server = AdminServer(app, sock)
    cleanup.push_async_callback(server.stop)
    if unix is not None:
        cleanup.callback(unix.remove_path)
    await server.start()
    _log.info("admin API on %s", server.address)
