# The image of squall: one static program that runs as an unprivileged user.
# The compiler is pinned, so that a commit always builds the same program.
FROM --platform=$BUILDPLATFORM golang:1.26.8 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS TARGETARCH
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH make build LDFLAGS='-s -w'

# Time zones are part of the program. The certificates are needed for a Prometheus
# or a Grafana outside the cluster.
FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /src/bin/squall /squall
# The first part of the owner that a run's objects name; the second is the pod.
ENV USER=squall
USER 65532:65532
ENTRYPOINT ["/squall"]
