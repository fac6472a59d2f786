{{- define "squall.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "squall.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "squall.selector" -}}
app.kubernetes.io/name: {{ include "squall.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "squall.labels" -}}
{{ include "squall.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "squall.serviceAccount" -}}
{{- default (ternary (include "squall.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name }}
{{- end }}

{{- define "squall.image" -}}
{{- with .Values.image -}}
{{- .repository }}:{{ default $.Chart.AppVersion .tag }}{{ with .digest }}@{{ . }}{{ end }}
{{- end }}
{{- end }}

{{/* The home namespace of the temporary objects; empty if only the listed namespaces are used. */}}
{{- define "squall.home" -}}
{{- default (ternary "" .Release.Namespace (gt (len .Values.namespaces) 0)) .Values.homeNamespace }}
{{- end }}

{{/* A JSON object with the list of namespaces in which Squall may write. */}}
{{- define "squall.namespaces" -}}
{{- dict "list" (append .Values.namespaces (include "squall.home" .) | compact | uniq) | toJson }}
{{- end }}

{{/* A JSON object with the list of names by which clients reach the Service. */}}
{{- define "squall.hosts" -}}
{{- $service := include "squall.fullname" . -}}
{{- $names := list $service -}}
{{- range list "" ".svc" (printf ".svc.%s" .Values.service.clusterDomain) }}
{{- $names = append $names (printf "%s.%s%s" $service $.Release.Namespace .) }}
{{- end -}}
{{- dict "list" (concat $names .Values.service.hosts) | toJson }}
{{- end }}

{{/*
The prefix of role names. It prevents conflicts with the roles of deploy/rbac.yaml
and with a release in another namespace.
*/}}
{{- define "squall.role" -}}
{{- printf "%s:%s" .Release.Namespace (include "squall.fullname" .) }}
{{- end }}

{{/* The secrets to mount, and for each the flag for its file. */}}
{{- define "squall.secrets" -}}
{{- with .Values -}}
{{- $all := list
  (merge (dict "volume" "prometheus" "flag" "prometheus-http-config") .prometheus.httpConfigSecret)
  (merge (dict "volume" "token" "flag" "api-token-file") .api.tokenSecret)
  (merge (dict "volume" "notify" "flag" "notify-file") .notify.secret)
  (merge (dict "volume" "grafana" "flag" "grafana-token-file") .grafana.tokenSecret)
-}}
{{- $used := list -}}
{{- range $all }}{{ if .name }}{{ $used = append $used . }}{{ end }}{{ end -}}
{{- dict "list" $used | toJson }}
{{- end }}
{{- end }}
