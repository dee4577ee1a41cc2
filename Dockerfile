# Both services, the client and the ledger in one image: the command says which.
#
#     docker build --tag event-driven-users .
#     docker run --rm event-driven-users python client.py --help
#
# docker-compose.yml builds it and runs them all.

FROM python:3.12-slim AS packages
COPY locks/run.lock .
RUN ["pip", "install", "--no-cache-dir", "--require-hashes", "--prefix=/packages", "--requirement=run.lock"]

FROM python:3.12-slim
RUN ["useradd", "--system", "--uid=10001", "--home-dir=/data", "service"]
RUN ["install", "--directory", "--owner=10001", "/data"]
COPY --from=packages /packages /usr/local
WORKDIR /app
COPY . .
USER 10001
# All interfaces are those of the container; what is reachable from outside, `--publish` says.
ENV HOST=0.0.0.0 PORT=8000 DATA_DIR=/data
EXPOSE 8000
# By http.client, which knows no proxies: what answers is this container.
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=5 \
    CMD ["python", "-c", \
    "from http.client import *; c = HTTPConnection('127.0.0.1', 8000, timeout=4); c.request('GET', '/health/ready'); exit(c.getresponse().status != 200)"]
CMD ["python", "-m", "user_service"]
