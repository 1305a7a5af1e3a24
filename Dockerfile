# One image for the four services, for Envoy with this project's configuration, and for creating the topics; the command
# chooses. Packages are pinned with hashes in deploy/requirements.lock.

FROM python:3.12-slim AS packages
COPY deploy/requirements.lock /tmp/requirements.lock
RUN python -m venv /opt/tocsin \
 && /opt/tocsin/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --require-hashes -r /tmp/requirements.lock

FROM python:3.12-slim
RUN groupadd --system --gid 10001 tocsin \
 && useradd --system --uid 10001 --gid tocsin --no-create-home --shell /usr/sbin/nologin tocsin \
 && install --directory --owner tocsin --group tocsin /var/lib/tocsin
COPY --from=packages /opt/tocsin /opt/tocsin
WORKDIR /app
COPY gen gen
COPY envoy envoy
COPY services services
COPY stack stack
RUN /opt/tocsin/bin/python -m compileall -q gen services stack
ENV PATH=/opt/tocsin/bin:$PATH \
    PYTHONPATH=/app:/app/gen \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HEALTH_URL=http://127.0.0.1:9101/health
USER tocsin
# Each of them reports its health over HTTP.
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=6 \
  CMD ["python", "-c", "import os, ssl, urllib.request as web; web.urlopen(os.environ['HEALTH_URL'], timeout=2, context=ssl.create_default_context(cafile=os.environ.get('HEALTH_CA')))"]
CMD ["python", "-m", "services.ingest", "--help"]
