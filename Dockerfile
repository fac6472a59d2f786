# The image of squall: one static program that runs as nobody in particular.
# The same commit gives the same program, for the compiler is fixed here.
FROM --platform=$BUILDPLATFORM golang:1.26.8 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS TARGETARCH
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH make build LDFLAGS='-s -w'

# Time zones are part of the program. Certificates are for a Prometheus or a
# Grafana beyond the cluster.
FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /src/bin/squall /squall
# The owner that a run's objects name, before the pod's.
ENV USER=squall
USER 65532:65532
ENTRYPOINT ["/squall"]
