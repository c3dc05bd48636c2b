# One static binary and nothing else.
FROM scratch
COPY comet /comet
USER 65532:65532
EXPOSE 8080 9090 8081 7070
ENTRYPOINT ["/comet"]
CMD ["serve"]
