# The API: no torch. Build from the repository's root: docker build -f deploy/api.Dockerfile .
FROM python:3.12-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/accentor
WORKDIR /src
COPY . .
RUN /opt/accentor/bin/pip install ".[api]"

FROM python:3.12-slim-bookworm
RUN useradd --uid 10001 --no-create-home accentor
COPY --from=build /opt/accentor /opt/accentor
COPY deploy/api_health.py /opt/accentor/
ENV PATH=/opt/accentor/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    ACCENTOR_HOST=0.0.0.0 \
    ACCENTOR_PORT=8000
USER 10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["python", "/opt/accentor/api_health.py"]
CMD ["accentor", "api"]
