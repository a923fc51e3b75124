"""Two machines that share an address, in network namespaces, with the real keepalived on either side or beside ours."""
