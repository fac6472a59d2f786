package validation

import (
	"maps"
	"sync"
)

// schemas returns the types of the specs that decide how proxies route calls, by kind.
var schemas = sync.OnceValue(func() map[string]schema { //nolint:gochecknoglobals // a constant table
	http, tcp, tls := routes()
	port := portReference()
	policy := trafficPolicy(port)
	return map[string]schema{
		"VirtualService": fieldsOf(map[string]schema{
			"hosts": listOf(of(text)), "gateways": listOf(of(text)), "exportTo": listOf(of(text)),
			"http": listOf(http), "tcp": listOf(tcp), "tls": listOf(tls),
		}),
		"ServiceEntry": fieldsOf(map[string]schema{
			"hosts": listOf(of(text)), "addresses": listOf(of(text)), "exportTo": listOf(of(text)), "location": of(text), "resolution": of(text),
			"ports":     listOf(fieldsOf(map[string]schema{"number": of(integer), "name": of(text), "protocol": of(text), "targetPort": of(integer)})),
			"endpoints": listOf(fieldsOf(map[string]schema{"address": of(text), "ports": mapOf(of(integer)), "labels": mapOf(of(text)), "weight": of(integer)})),
		}),
		"DestinationRule": fieldsOf(map[string]schema{
			"host": of(text), "exportTo": listOf(of(text)), "trafficPolicy": policy,
			"subsets":          listOf(fieldsOf(map[string]schema{"name": of(text), "labels": mapOf(of(text)), "trafficPolicy": policy})),
			"workloadSelector": selector("matchLabels"),
		}),
		"Sidecar": fieldsOf(map[string]schema{
			"workloadSelector":      selector("labels"),
			"egress":                listOf(fieldsOf(map[string]schema{"hosts": listOf(of(text)), "port": port, "bind": of(text), "captureMode": of(text)})),
			"outboundTrafficPolicy": fieldsOf(map[string]schema{"mode": of(text)}),
		}),
		"Gateway": fieldsOf(map[string]schema{
			"selector": mapOf(of(text)),
			"servers":  listOf(fieldsOf(map[string]schema{"hosts": listOf(of(text)), "port": port, "name": of(text), "bind": of(text)})),
		}),
	}
})

// portReference returns the type of a port.
func portReference() schema {
	return fieldsOf(map[string]schema{"number": of(integer), "name": of(text), "protocol": of(text)})
}

// routes returns the types of the routes of a VirtualService.
func routes() (http, tcp, tls schema) {
	stringMatch := fieldsOf(map[string]schema{"exact": of(text), "prefix": of(text), "regex": of(text)})
	destination := fieldsOf(map[string]schema{"host": of(text), "subset": of(text), "port": fieldsOf(map[string]schema{"number": of(integer)})})
	percent := fieldsOf(map[string]schema{"value": of(number)})
	headerChanges := fieldsOf(map[string]schema{"set": mapOf(of(text)), "add": mapOf(of(text)), "remove": listOf(of(text))})
	headers := fieldsOf(map[string]schema{"request": headerChanges, "response": headerChanges})
	sources := map[string]schema{"port": of(integer), "sourceLabels": mapOf(of(text)), "sourceNamespace": of(text), "gateways": listOf(of(text))}
	httpMatch := fieldsOf(with(sources, map[string]schema{
		"name": of(text), "uri": stringMatch, "scheme": stringMatch, "method": stringMatch, "authority": stringMatch, "ignoreUriCase": of(boolean),
		"headers": mapOf(stringMatch), "withoutHeaders": mapOf(stringMatch), "queryParams": mapOf(stringMatch), "statPrefix": of(text),
	}))
	weighted := fieldsOf(map[string]schema{"destination": destination, "weight": of(integer)})
	http = fieldsOf(map[string]schema{
		"name": of(text), "match": listOf(httpMatch), "timeout": of(duration), "headers": headers, "mirror": destination, "mirrorPercentage": percent,
		"route":    listOf(fieldsOf(map[string]schema{"destination": destination, "weight": of(integer), "headers": headers})),
		"redirect": fieldsOf(map[string]schema{"uri": of(text), "authority": of(text), "scheme": of(text), "port": of(integer), "redirectCode": of(integer)}),
		"rewrite":  fieldsOf(map[string]schema{"uri": of(text), "authority": of(text)}),
		"delegate": fieldsOf(map[string]schema{"name": of(text), "namespace": of(text)}),
		"retries":  fieldsOf(map[string]schema{"attempts": of(integer), "perTryTimeout": of(duration), "retryOn": of(text), "backoff": of(duration)}),
		"fault": fieldsOf(map[string]schema{
			"abort": fieldsOf(map[string]schema{"httpStatus": of(integer), "grpcStatus": of(text), "percentage": percent}),
			"delay": fieldsOf(map[string]schema{"fixedDelay": of(duration), "percent": of(integer), "percentage": percent}),
		}),
		"mirrors":        listOf(fieldsOf(map[string]schema{"destination": destination, "percentage": percent})),
		"corsPolicy":     fieldsOf(map[string]schema{"allowOrigins": listOf(stringMatch), "allowMethods": listOf(of(text)), "allowHeaders": listOf(of(text)), "maxAge": of(duration)}),
		"directResponse": fieldsOf(map[string]schema{"status": of(integer)}),
	})
	connectionMatch := with(sources, map[string]schema{"destinationSubnets": listOf(of(text))})
	tcp = fieldsOf(map[string]schema{"match": listOf(fieldsOf(connectionMatch)), "route": listOf(weighted)})
	tls = fieldsOf(map[string]schema{
		"match": listOf(fieldsOf(with(connectionMatch, map[string]schema{"sniHosts": listOf(of(text))}))), "route": listOf(weighted),
	})
	return http, tcp, tls
}

// trafficPolicy returns the type of the policy of a DestinationRule.
func trafficPolicy(port schema) schema {
	connectionPool := fieldsOf(map[string]schema{
		"tcp":  fieldsOf(map[string]schema{"maxConnections": of(integer), "connectTimeout": of(duration)}),
		"http": fieldsOf(map[string]schema{"http1MaxPendingRequests": of(integer), "http2MaxRequests": of(integer), "maxRetries": of(integer), "idleTimeout": of(duration)}),
	})
	outlierDetection := fieldsOf(map[string]schema{"consecutive5xxErrors": of(integer), "interval": of(duration), "baseEjectionTime": of(duration), "maxEjectionPercent": of(integer)})
	policyFields := map[string]schema{"connectionPool": connectionPool, "outlierDetection": outlierDetection, "loadBalancer": fieldsOf(nil), "tls": fieldsOf(map[string]schema{"mode": of(text), "sni": of(text)})}
	return fieldsOf(with(policyFields, map[string]schema{"portLevelSettings": listOf(fieldsOf(with(policyFields, map[string]schema{"port": port})))}))
}

func selector(field string) schema { return fieldsOf(map[string]schema{field: mapOf(of(text))}) }

// with returns the fields of two objects together.
func with(a, b map[string]schema) map[string]schema {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}
