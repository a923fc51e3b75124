# The same Python and the same Debian as in CI, where docker/install.sh is tested.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
COPY docker/install.sh docker/install.sh
RUN docker/install.sh compiler
COPY pyproject.toml README.md ./
COPY pyproxy pyproxy
RUN docker/install.sh python /opt/pyproxy .

FROM ${PYTHON_IMAGE}
COPY docker/install.sh /usr/local/bin/pyproxy-install
RUN pyproxy-install system /usr/local/lib/libjemalloc.so \
    && rm -rf /usr/local/bin/pyproxy-install /var/lib/apt/lists/*
COPY --from=build /opt/pyproxy /opt/pyproxy
COPY config /etc/pyproxy

ENV PATH=/opt/pyproxy/bin:$PATH \
    LD_PRELOAD=/usr/local/lib/libjemalloc.so

# A number, so that an orchestrator can see without a passwd file that it isn't root.
USER 10001:10001
EXPOSE 80
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 9900, timeout=2); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["pyproxy"]
CMD ["-c", "/etc/pyproxy/lb.yml"]
