"""Events of model calls become measurements, for OpenTelemetry and Prometheus."""
