package prom

import "context"

// Version asks the server which version of Prometheus it is. Servers that only
// speak its API may not know.
func (c *Client) Version(ctx context.Context) (string, error) {
	info, err := c.api.Buildinfo(ctx)
	if err != nil {
		return "", c.explain(ctx, err)
	}
	return info.Version, nil
}
