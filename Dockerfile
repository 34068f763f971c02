# Production image: web, worker and beat run the same one with different commands (see docker-compose.yml).
FROM python:3.13-slim AS packages
RUN pip install --no-cache-dir uv
ENV UV_PROJECT_ENVIRONMENT=/opt/venv UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy
WORKDIR /app
COPY pyproject.toml uv.lock ./
# Neither the development tools nor the embedded engines: production brings its own PostgreSQL and Valkey.
RUN uv sync --frozen --no-default-groups

FROM python:3.13-slim
RUN useradd --system --uid 10001 --no-create-home watchclock \
    && install --directory --owner=watchclock /data
COPY --from=packages /opt/venv /opt/venv
# Mount a volume of its own at /data for the web: acknowledged check-ins may be in its spool.
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 WATCHCLOCK_HOST=0.0.0.0 SPOOL_DIRECTORY=/data/spool
WORKDIR /app
COPY manage.py ./
COPY project project
COPY health health
COPY dashboard dashboard
COPY lib lib
COPY audit audit
COPY monitors monitors
COPY accounts accounts
COPY incidents incidents
COPY checkins checkins
COPY clocktasks clocktasks
USER watchclock
EXPOSE 8000
CMD ["python", "-m", "project.web"]
