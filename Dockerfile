# One file, three images:
#   docker build --build-arg EXTRA=api    --build-arg SERVICE=producer_api      -t docfleet/producer-api .
#   docker build --build-arg EXTRA=worker --build-arg SERVICE=classifier_worker -t docfleet/classifier-worker .
#   docker build --build-arg EXTRA=status --build-arg SERVICE=status_service    -t docfleet/status-service .
# Probes belong to whoever runs the container, so there is no HEALTHCHECK here.
FROM python:3.11-slim AS build
ARG EXTRA
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY docfleet docfleet
COPY producer_api producer_api
COPY classifier_worker classifier_worker
COPY status_service status_service
RUN python -m venv /venv
RUN /venv/bin/pip install --no-cache-dir ".[${EXTRA:?is api or worker or status},registry,otel]"

FROM python:3.11-slim
ARG SERVICE
# PYTHONDONTWRITEBYTECODE: the root file system may be read-only. HOME: where model libraries keep their caches.
ENV SERVICE=$SERVICE PATH=/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 HOME=/tmp
COPY --from=build /venv /venv
USER 10001:10001
WORKDIR /tmp
EXPOSE 8080
STOPSIGNAL SIGTERM
# exec: the service is process 1 and gets the SIGTERM itself
CMD ["sh", "-c", "exec python -m \"$SERVICE\""]
