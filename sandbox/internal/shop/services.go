package shop

import (
	"context"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/squall-chaos/squall/sandbox/internal/layout"
	"github.com/squall-chaos/squall/sandbox/internal/telemetry"
)

// The methods of the services. They take nothing and return a JSON-like struct, so that
// no code needs to be generated.
const (
	getRatings = "/shop.Ratings/Get"
	getDetails = "/shop.Details/Get"
	getReviews = "/shop.Reviews/Get"
)

// userHeader carries who is logged in, through all calls, as in Bookinfo.
const userHeader = "end-user"

// answer makes a service with one method, Get.
func answer(name string, get func(context.Context) (map[string]any, error)) *grpc.ServiceDesc {
	handle := func(_ any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
		request := &emptypb.Empty{}
		if err := decode(request); err != nil {
			return nil, err
		}
		reply := func(ctx context.Context, _ any) (any, error) {
			fields, err := get(ctx)
			if err != nil {
				return nil, err
			}
			return structpb.NewStruct(fields)
		}
		return intercept(ctx, request, &grpc.UnaryServerInfo{FullMethod: "/" + name + "/Get"}, reply)
	}
	return &grpc.ServiceDesc{ServiceName: name, HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{MethodName: "Get", Handler: handle}}}
}

// fetch calls a service and passes the logged-in user on.
func fetch(ctx context.Context, conn *grpc.ClientConn, method string) (map[string]any, error) {
	if incoming, ok := metadata.FromIncomingContext(ctx); ok {
		ctx = metadata.NewOutgoingContext(ctx, metadata.MD{userHeader: incoming.Get(userHeader)})
	}
	reply := &structpb.Struct{}
	if err := conn.Invoke(ctx, method, &emptypb.Empty{}, reply); err != nil {
		return nil, err
	}
	return reply.AsMap(), nil
}

func serveRatings(ctx context.Context, self Workload, reporter *telemetry.Reporter) error {
	return serveGRPC(ctx, self, reporter, ratingsHost, answer("shop.Ratings", func(context.Context) (map[string]any, error) {
		return map[string]any{"Reviewer1": 5, "Reviewer2": 4}, nil
	}))
}

func serveDetails(ctx context.Context, self Workload, reporter *telemetry.Reporter) error {
	return serveGRPC(ctx, self, reporter, detailsHost, answer("shop.Details", func(context.Context) (map[string]any, error) {
		return map[string]any{"Title": "The Comedy of Errors", "Pages": 200, "Language": "English"}, nil
	}))
}

// serveReviews degrades: without ratings it returns the reviews without stars.
func serveReviews(ctx context.Context, self Workload, reporter *telemetry.Reporter) error {
	ratings, err := dial(ctx, reporter, ratingsHost)
	if err != nil {
		return err
	}
	defer ratings.Close() //nolint:errcheck // the process ends
	colour := map[string]string{"v1": "black", "v2": "red"}[self.Labels["version"]]
	return serveGRPC(ctx, self, reporter, reviewsHost, answer("shop.Reviews", func(ctx context.Context) (map[string]any, error) {
		reviews := map[string]any{"Version": self.Labels["version"], "Reviewer1": "An extremely entertaining play.", "Reviewer2": "Absolutely fun and entertaining."}
		if stars, err := fetch(ctx, ratings, getRatings); err == nil {
			reviews["Stars"], reviews["Colour"] = stars, colour
		}
		return reviews, nil
	}))
}

//nolint:gochecknoglobals // a constant template
var page = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<html lang="en"><head><title>{{.Details.Title}}</title></head><body>
<h1>{{.Details.Title}}</h1>
<p>{{.Details.Pages}} pages, {{.Details.Language}}</p>
{{range $reviewer, $text := .Reviews}}<blockquote>{{$text}} {{with index $.Stars $reviewer}}<span class="stars" style="color: {{$.Colour}}">{{.}} stars</span>{{end}}<footer>{{$reviewer}}</footer></blockquote>
{{end}}{{if not .Stars}}<p>Ratings are not available at the moment.</p>{{end}}
</body></html>
`))

// serveProductPage answers 200 as long as details and reviews do. It waits
// for details without a deadline, which is the weakness that the demo finds.
func serveProductPage(ctx context.Context, self Workload, reporter *telemetry.Reporter) error {
	details, err := dial(ctx, reporter, detailsHost)
	if err != nil {
		return err
	}
	defer details.Close() //nolint:errcheck // the process ends
	reviews, err := dial(ctx, reporter, reviewsHost)
	if err != nil {
		return err
	}
	defer reviews.Close() //nolint:errcheck // the process ends
	mux := http.NewServeMux()
	mux.HandleFunc("GET /productpage", func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		if user := r.Header.Get(userHeader); user != "" {
			ctx = metadata.NewIncomingContext(ctx, metadata.Pairs(userHeader, user))
		}
		detail, err := fetch(ctx, details, getDetails)
		if err != nil {
			http.Error(w, "details: "+err.Error(), httpCode(err))
			return
		}
		review, err := fetch(ctx, reviews, getReviews)
		if err != nil {
			http.Error(w, "reviews: "+err.Error(), httpCode(err))
			return
		}
		texts := map[string]any{"Reviewer1": review["Reviewer1"], "Reviewer2": review["Reviewer2"]}
		stars, _ := review["Stars"].(map[string]any)
		_ = page.Execute(w, map[string]any{"Details": detail, "Reviews": texts, "Stars": stars, "Colour": review["Colour"]}) // the client may be gone
	})
	return serveHTTP(ctx, self.Listen, reporter.Server(productPageHost, mux))
}

// httpCode is what a product page answers when a service it needs fails.
func httpCode(err error) int {
	if status.Code(err) == codes.DeadlineExceeded {
		return http.StatusGatewayTimeout
	}
	return http.StatusServiceUnavailable
}

// The load: enough for a rate over a few seconds to be steady.
const (
	requestsPerSecond = 50
	// pageTimeout is how long a visitor waits.
	pageTimeout = 10 * time.Second
	// maxInFlight bounds the visitors who wait at the same time.
	maxInFlight = 1000
)

// SteadyLoad is PromQL that returns a series if the load has been steady, and without any
// error, for some seconds.
const SteadyLoad = `sum(rate(istio_requests_total{reporter="source",source_workload="loadgenerator",response_code="200"}[5s])) > 40
unless on () sum(rate(istio_requests_total{reporter="source",source_workload="loadgenerator",response_code!="200"}[5s])) > 0`

// generateLoad visits the product page at a steady rate, whether earlier
// visits have been answered or not.
func generateLoad(ctx context.Context, _ Workload, reporter *telemetry.Reporter) error {
	client := &http.Client{
		Timeout:   pageTimeout,
		Transport: reporter.Transport(productPageHost, &http.Transport{MaxIdleConnsPerHost: maxInFlight}),
	}
	url := fmt.Sprintf("http://%s/productpage", layout.ProductPage)
	inFlight := make(chan struct{}, maxInFlight)
	ticker := time.NewTicker(time.Second / requestsPerSecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		select {
		case inFlight <- struct{}{}:
		default:
			continue
		}
		go func() {
			defer func() { <-inFlight }()
			visit(ctx, client, url)
		}()
	}
}

// visit loads the page once. The metrics have the result.
func visit(ctx context.Context, client *http.Client, url string) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return
	}
	response, err := client.Do(request)
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, response.Body) // a broken page is counted by its status
	_ = response.Body.Close()
}
