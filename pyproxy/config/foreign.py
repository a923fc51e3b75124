"""
Words of nginx and HAProxy that are no keys here: what to write instead, and where docs/migration.md says more.

Must not know where in a file they stand.
"""

MIGRATION = "docs/migration.md"

_ABSENT = "what-is-not-there"
_LISTENING = "listening-and-sockets"
_HOSTS = "hosts-and-paths"
_POOLS = "pools-and-policies"
_BACKENDS = "backends-limits-and-the-queue"
_TIMEOUTS = "timeouts"
_ATTEMPTS = "attempts"
_HEALTH = "health-checks"
_KEEPALIVE = "keepalive"
_HEADERS = "headers-and-variables"
_CLIENT = "who-the-client-is"
_PROXY = "proxy-protocol"
_REDIRECTS = "redirects-and-rewriting"
_LOGS = "logs"
_DNS = "dns"
_LIMITS = "limits-and-error-pages"
_SIGNALS = "statistics-reload-and-signals"
_WORDS = "the-words"

#: Word -> what it is here, "" for nothing, and the section of docs/migration.md.
FOREIGN_WORDS: dict[str, tuple[str, str]] = {
    # files and blocks
    **dict.fromkeys(("http", "events", "stream", "global", "defaults"), ("", _WORDS)),
    **dict.fromkeys(("server", "servers"), ("a listener, or one of a pool's backends", _WORDS)),
    **dict.fromkeys(("frontend", "frontends"), ("listeners and routes", _WORDS)),
    **dict.fromkeys(("upstream", "upstreams", "backend"), ("pools", _WORDS)),
    **dict.fromkeys(("location", "locations", "acl", "use_backend", "default_backend"), ("routes", _HOSTS)),
    "include": ("", _ABSENT),
    # listening
    "listen": ("listeners, each with a bind", _LISTENING),
    **dict.fromkeys(("worker_processes", "nbthread", "nbproc"), ("workers", _LISTENING)),
    **dict.fromkeys(("worker_connections", "maxconn"), ("limits.connections, or max_conns of a backend", _LISTENING)),
    **dict.fromkeys(("backlog", "reuseport", "group"), ("", _LISTENING)),
    **dict.fromkeys(("accept-proxy", "accept_proxy"), ("proxy_protocol of the listener", _PROXY)),
    **dict.fromkeys(("send-proxy", "send-proxy-v2"), ("send_proxy of the pool", _PROXY)),
    **dict.fromkeys(
        ("ssl", "ssl_certificate", "ssl_certificate_key", "ssl_protocols", "crt", "alpn", "verify"),
        ("tls, not available yet", _ABSENT),
    ),
    # routes
    "server_name": ("host of a route", _HOSTS),
    **dict.fromkeys(("path_beg", "path_end", "path_reg", "hdr"), ("path and host of a route", _HOSTS)),
    "limit_except": ("methods of a route", _HOSTS),
    **dict.fromkeys(("proxy_pass", "fastcgi_pass", "uwsgi_pass"), ("pool of a route, and its backends", _POOLS)),
    **dict.fromkeys(("root", "alias", "index", "try_files", "if", "map"), ("", _ABSENT)),
    **dict.fromkeys(("gzip", "gzip_types", "brotli", "compression", "proxy_cache", "cache"), ("", _ABSENT)),
    **dict.fromkeys(("limit_req", "limit_req_zone", "limit_conn", "limit_conn_zone", "stick-table"), ("", _ABSENT)),
    **dict.fromkeys(("auth_basic", "auth_basic_user_file", "deny", "mode", "proxy_cache_path"), ("", _ABSENT)),
    **dict.fromkeys(("return", "http-redirect"), ("redirect of a route", _REDIRECTS)),
    **dict.fromkeys(("rewrite", "sub_filter", "proxy_redirect"), ("", _REDIRECTS)),
    **dict.fromkeys(("proxy_set_header", "http-request"), ("request_headers of a route", _HEADERS)),
    **dict.fromkeys(("add_header", "proxy_hide_header", "http-response"), ("response_headers of a route", _HEADERS)),
    # pools
    **dict.fromkeys(("balance", "least_conn", "ip_hash", "random", "lb_method"), ("policy of a pool", _POOLS)),
    **dict.fromkeys(("max_fails", "fail_timeout", "observe", "error-limit"), ("outlier of the pool", _BACKENDS)),
    **dict.fromkeys(("down", "disabled"), ("weight: 0, or pyproxy maint", _BACKENDS)),
    "cookie": ("sticky of the pool", _POOLS),
    **dict.fromkeys(("resolver", "resolvers", "nameserver"), ("dns.servers", _DNS)),
    "maxqueue": ("queue of the pool", _BACKENDS),
    "slowstart": ("slow_start of the pool", _BACKENDS),
    **dict.fromkeys(("check", "option", "httpchk", "health_check", "inter", "fastinter"), ("health", _HEALTH)),
    **dict.fromkeys(("proxy_next_upstream", "proxy_next_upstream_tries", "retries"), ("retry of a pool", _ATTEMPTS)),
    **dict.fromkeys(("redispatch", "retry-on"), ("retry of a pool", _ATTEMPTS)),
    **dict.fromkeys(("proxy_connect_timeout", "proxy_read_timeout", "proxy_send_timeout"), ("timeouts", _TIMEOUTS)),
    **dict.fromkeys(("client_header_timeout", "client_body_timeout", "send_timeout"), ("client", _TIMEOUTS)),
    "timeout": ("timeouts of a pool, client, or queue", _TIMEOUTS),
    **dict.fromkeys(("keepalive_timeout", "keepalive_requests"), ("client, or keepalive of a pool", _KEEPALIVE)),
    **dict.fromkeys(("proxy_http_version", "http-reuse"), ("", _KEEPALIVE)),
    # the client, logs, limits
    **dict.fromkeys(("set_real_ip_from", "real_ip_header", "real_ip_recursive"), ("trusted_proxies", _CLIENT)),
    "forwardfor": ("done always", _CLIENT),
    **dict.fromkeys(("error_log", "log_format", "log", "log-format"), ("access_log and log_level", _LOGS)),
    "client_max_body_size": ("limits.body, or body_limit of a route", _LIMITS),
    **dict.fromkeys(("large_client_header_buffers", "client_header_buffer_size"), ("limits", _LIMITS)),
    **dict.fromkeys(("error_page", "errorfile"), ("error_pages", _LIMITS)),
    **dict.fromkeys(("proxy_buffering", "proxy_request_buffering"), ("", "what-behaves-differently")),
    **dict.fromkeys(("stats", "stub_status", "daemon", "pid", "pidfile"), ("", _SIGNALS)),
}


def foreign_hint(word: object) -> str:
    """
    Say what a word of nginx or HAProxy is here, as the end of a sentence; empty if it is none.

    >>> foreign_hint("server_name")
    '; here it is host of a route: see docs/migration.md#hosts-and-paths'
    """
    found = FOREIGN_WORDS.get(word) if isinstance(word, str) else None
    if found is None:
        return ""
    here, anchor = found
    what = f"here it is {here}" if here else "there is no such thing here"
    return f"; {what}: see {MIGRATION}#{anchor}"
