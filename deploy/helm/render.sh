#!/bin/sh
# Write the renderings that tests check: deploy/helm/rendered. HELM=… names helm, else the one on the path.
set -eu
cd "$(dirname "$0")"
helm=${HELM:-helm}
"$helm" lint --quiet tocsin
render() {
  name=$1; shift
  "$helm" template tocsin tocsin --namespace tocsin --kube-version 1.34.0 "$@" > "rendered/$name.yaml"
}
render one-node
render production -f tocsin/values-production.yaml --set otlp.target=otel-collector:4317 \
  --set-json 'otlp.peers=[{"podSelector":{"matchLabels":{"app":"otel-collector"}}}]'
render vault -f examples/vault-values.yaml --set kafka.createTopics=false --set tls.certManager=false
