# sessiond in a container. The configuration is /etc/sessiond/sessiond.yml: the one from config/ unless yours is mounted over
# it. A container is reached through its own address, so that yours needs server.listen: 0.0.0.0:50065 together with
# server.tls, or server.insecure: true where the network is protected otherwise; and metrics.listen: 0.0.0.0:9100.
#
#   docker build --tag sessiond .
#   docker run --publish 50065:50065 --volume "$PWD/sessiond.yml:/etc/sessiond/sessiond.yml:ro" sessiond

FROM python:3.13-slim AS build
RUN pip install --no-cache-dir uv==0.13.8
ENV UV_PROJECT_ENVIRONMENT=/opt/sessiond UV_PYTHON_DOWNLOADS=never UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy
WORKDIR /build
# What we depend on changes less often than we do: a layer of its own is built seldom.
COPY pyproject.toml uv.lock README.md ./
RUN uv sync --locked --all-extras --no-default-groups --no-install-project
COPY src src
RUN uv sync --locked --all-extras --no-default-groups --no-editable

FROM python:3.13-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin sessiond
COPY --from=build /opt/sessiond /opt/sessiond
COPY config/sessiond.yml /etc/sessiond/sessiond.yml
ENV PATH="/opt/sessiond/bin:$PATH"
USER 10001
EXPOSE 50065 9100
# The answer of grpc.health.v1 for the whole server. With TLS, or on another port, give docker run a --health-cmd of its own.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import grpc, sys; from grpc_health.v1 import health_pb2 as h, health_pb2_grpc as s; sys.exit(s.HealthStub(grpc.insecure_channel('127.0.0.1:50065')).Check(h.HealthCheckRequest(), timeout=3).status != h.HealthCheckResponse.SERVING)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["sessiond"]
CMD ["--config", "/etc/sessiond/sessiond.yml"]
