{{- define "tocsin.labels" -}}
app.kubernetes.io/name: tocsin
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "tocsin.metadata" -}}
name: {{ .root.Release.Name }}-{{ .component }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "tocsin.labels" . | nindent 2 }}
  app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
  helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "tocsin.pod-metadata" -}}
labels:
  {{- include "tocsin.labels" . | nindent 2 }}
annotations:
  checksum/values: {{ toJson .root.Values | sha256sum }}
  {{- with merge (dict) (.annotations | default dict) .root.Values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- /* What every pod has: the restricted Pod Security Standard, and a place among the nodes. */ -}}
{{- define "tocsin.pod" -}}
automountServiceAccountToken: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
    {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - weight: 100
      podAffinityTerm:
        topologyKey: {{ . }}
        labelSelector:
          matchLabels:
            {{- include "tocsin.labels" $ | nindent 12 }}
    {{- end }}
{{- end }}

{{- define "tocsin.container" -}}
image: {{ .root.Values.image.repository }}:{{ .root.Values.image.tag }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- /* Settings of the chart, then those of the values, which may replace them. */ -}}
{{- define "tocsin.environment" -}}
{{- range $name, $value := merge (deepCopy .given) .own }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

{{- define "tocsin.kafka-settings" -}}
{{ .prefix }}_BROKERS: {{ .root.Values.kafka.brokers | quote }}
{{- if .root.Values.kafka.secret }}
{{ .prefix }}_KAFKA_CA: /etc/tocsin/kafka/ca.crt
{{ .prefix }}_KAFKA_SASL_MECHANISM: {{ .root.Values.kafka.saslMechanism }}
{{ .prefix }}_KAFKA_SASL_USER: {{ .root.Values.kafka.user }}
{{ .prefix }}_KAFKA_SASL_PASSWORD_FILE: /etc/tocsin/kafka/password
{{- end }}
{{- end }}

{{- /* The certificate of a component: the service sees callers' identities, and shows its own. */ -}}
{{- define "tocsin.volumes" -}}
- name: tmp
  emptyDir: {}
- name: tls
  secret: {secretName: {{ .root.Release.Name }}-tls-{{ .component }}, defaultMode: 0440}
{{- if and .kafka .root.Values.kafka.secret }}
- name: kafka
  secret: {secretName: {{ .root.Values.kafka.secret }}, defaultMode: 0440}
{{- end }}
{{- if and .database .root.Values.database.secret }}
- name: database
  # Without the URL of the owner of the tables, which the migrations alone have.
  secret:
    secretName: {{ .root.Values.database.secret }}
    defaultMode: 0440
    items: [{key: {{ .component }}-url, path: {{ .component }}-url}, {key: ca.crt, path: ca.crt}]
{{- end }}
{{- if and .redis .root.Values.redis.secret }}
- name: redis
  secret: {secretName: {{ .root.Values.redis.secret }}, defaultMode: 0440}
{{- end }}
{{- end }}

{{- define "tocsin.mounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: tls, mountPath: /etc/tocsin/tls, readOnly: true}
{{- if and .kafka .root.Values.kafka.secret }}
- {name: kafka, mountPath: /etc/tocsin/kafka, readOnly: true}
{{- end }}
{{- if and .database .root.Values.database.secret }}
- {name: database, mountPath: /etc/tocsin/database, readOnly: true}
{{- end }}
{{- if and .redis .root.Values.redis.secret }}
- {name: redis, mountPath: /etc/tocsin/redis, readOnly: true}
{{- end }}
{{- end }}

{{- /* What every pod may reach: names, and what an injector's container needs. */}}
{{- define "tocsin.pod-egress" -}}
- to: [{namespaceSelector: {}, podSelector: {matchLabels: {k8s-app: kube-dns}}}]
  ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
{{- with .Values.podEgress }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "tocsin.otlp-egress" -}}
{{- if .Values.otlp.target }}
- ports: [{port: {{ splitList ":" .Values.otlp.target | last }}, protocol: TCP}]
  to:
    {{- toYaml .Values.otlp.peers | nindent 2 }}
{{- end }}
{{- end }}
