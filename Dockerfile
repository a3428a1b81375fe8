FROM python:3.11-slim
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY tuner tuner
COPY api api
RUN pip install --no-cache-dir --constraint constraints.txt '.[postgres]' && useradd --create-home tuner && install -d -o tuner /data
USER tuner
ENV TUNER_HOST=0.0.0.0 TUNER_PORT=8000 TUNER_DATA_DIR=/data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --start-period=30s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz')"]
CMD ["tuner", "serve"]
