package prom

import "context"

// Version returns the version of the server. It is empty for servers with another
// implementation of the API that have no version.
func (c *Client) Version(ctx context.Context) (string, error) {
	info, err := c.api.Buildinfo(ctx)
	if err != nil {
		return "", c.explain(ctx, err)
	}
	return info.Version, nil
}
