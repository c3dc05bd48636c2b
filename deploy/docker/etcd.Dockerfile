# etcd out of its Go module: for places that cannot pull the project's image.
FROM scratch
COPY etcd /etcd
COPY --chown=65532:65532 data /data
USER 65532:65532
EXPOSE 2379 2380
ENTRYPOINT ["/etcd"]
CMD ["--data-dir=/data/etcd", "--listen-client-urls=http://0.0.0.0:2379", "--advertise-client-urls=http://127.0.0.1:2379"]
