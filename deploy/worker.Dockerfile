# A worker. Build from the repository's root: docker build -f deploy/worker.Dockerfile .
# For NVIDIA GPUs: --build-arg TORCH_INDEX= takes torch's default wheels, which carry CUDA.
FROM python:3.12-slim-bookworm AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/accentor
# Apart from the rest, so that a change of our code does not fetch torch anew.
RUN /opt/accentor/bin/pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "torch>=2.6" "torchvision>=0.21"
WORKDIR /src
COPY . .
RUN /opt/accentor/bin/pip install ".[worker]"

FROM python:3.12-slim-bookworm
RUN useradd --uid 10001 --no-create-home accentor && install --directory --owner=accentor /models
COPY --from=build /opt/accentor /opt/accentor
COPY deploy/worker_health.py /opt/accentor/
# glibc keeps large CPU tensors for reuse, as in the embedded mode. Downloaded weights go to /models.
ENV PATH=/opt/accentor/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    MALLOC_MMAP_MAX_=0 \
    MALLOC_TRIM_THRESHOLD_=4000000000 \
    MALLOC_TOP_PAD_=268435456 \
    OMP_WAIT_POLICY=PASSIVE \
    TORCH_HOME=/models
USER 10001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=5m --retries=3 CMD ["python", "/opt/accentor/worker_health.py"]
CMD ["accentor", "worker"]
