package files_test

import (
	"fmt"
	"log"
	"strings"

	"github.com/squall-chaos/squall/experiments/files"
)

const ratingsOutage = `
apiVersion: squall.dev/v1alpha1
kind: Experiment
metadata: {name: ratings-outage}
spec:
  target: {host: ratings.prod}
  callers: [{namespace: shop}]
  faults:
  - abort: {httpStatus: 503}
    percentage: 50
  duration: 2m
  steadyState:
    probes:
    - name: product page answers
      successRate: {destination: productpage.shop}
      min: 0.99
`

func ExampleLoad() {
	loaded, err := files.Load("ratings-outage.yaml", strings.NewReader(ratingsOutage))
	if err != nil {
		log.Fatal(err)
	}
	for _, e := range loaded {
		fmt.Println(e.Metadata.Name, "lasts", e.Spec.Duration)
		for _, injection := range e.Spec.Injections() {
			fmt.Println("target:", injection.Target.Host, "share:", injection.Percentage)
		}
	}
	// Output:
	// ratings-outage lasts 2m
	// target: ratings.prod share: 50
}

// All problems of a file are reported at once, each with its position.
func ExampleLoad_problems() {
	broken := strings.NewReplacer("percentage: 50", "percentage: 500", "min: 0.99", "mim: 0.99").Replace(ratingsOutage)
	_, err := files.Load("ratings-outage.yaml", strings.NewReader(broken))
	fmt.Println(err)
	// Output:
	// ratings-outage.yaml:10:17: spec.faults[0].percentage: 500 is not a percentage of requests (from 0.0001, the smallest that Istio has, to 100)
	// ratings-outage.yaml:16:7: spec.steadyState.probes[0].mim: unknown field (did you mean min?)
}
