// The resource definitions of the Prometheus Operator, which its module contains; nothing of it is built.
module metric-reasoner/monitoring-crds

go 1.24.0

require github.com/prometheus-operator/prometheus-operator v0.85.0
