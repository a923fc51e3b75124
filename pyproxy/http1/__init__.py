"""HTTP/1 without I/O: bytes in, heads and bodies out, and the way back. Knows nothing of sockets, pools or time."""
