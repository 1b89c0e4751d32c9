# All programs in one image, for processors and GPUs: docs/container.md
#
# Any glibc image with Python 3.10 to 3.13 and its venv module.
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS packages
# Which requirements-<name>.txt beside requirements.txt: "serving export monitoring".
ARG EXTRAS="serving"
# An index with torch for processors only, which is a quarter of the size.
ARG PIP_EXTRA_INDEX_URL
WORKDIR /build
COPY requirements*.txt constraints.txt ./
# Without pip in the end: what runs installs nothing.
RUN set -- -r requirements.txt \
    && for extra in ${EXTRAS}; do set -- "$@" -r "requirements-${extra}.txt"; done \
    && python3 -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir "$@" -c constraints.txt \
    && /opt/venv/bin/pip uninstall --yes pip

FROM ${BASE}
COPY --from=packages /opt/venv /opt/venv
# Models that are downloaded lie in /workspace/.cache. A user id without a name is a user, too.
ENV PATH=/opt/venv/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    HOME=/workspace \
    LOGNAME=segmentation
COPY . /app
RUN python -m compileall -q /app \
    && mkdir /workspace \
    && chmod 1777 /workspace
WORKDIR /workspace
USER 1000:1000
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python", "/app/container/health.py"]
ENTRYPOINT ["/app/container/entrypoint.sh"]
