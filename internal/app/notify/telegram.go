package notify

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/nicholas-fedor/shoutrrr/pkg/services/chat/telegram"
)

// bot sends through Telegram. Shoutrrr parses its URL, but its sender ignores a
// server that cannot be reached, or that answers with anything but Telegram's JSON.
type bot struct {
	client *http.Client
	url    string
	chats  []chat
	// left are the chats that have not received the current message, and refused is
	// the final error of other chats.
	left    []chat
	refused error
	sending *message
}

// chat is a request to send a message, without its text.
type chat struct {
	ID       string `json:"chat_id"`
	Thread   int    `json:"message_thread_id,omitempty"`
	Silent   bool   `json:"disable_notification,omitempty"`
	NoLinks  bool   `json:"disable_web_page_preview,omitempty"`
	Contents string `json:"text"`
}

const telegramAPI = "https://api.telegram.org/bot"

func newTelegram(config *telegram.Config, client *http.Client) *bot {
	b := &bot{client: client, url: telegramAPI + config.Token + "/sendMessage"}
	for _, name := range config.Chats {
		c := chat{ID: name, Silent: !config.Notification, NoLinks: !config.Preview}
		if id, thread, ok := strings.Cut(name, ":"); ok {
			if n, err := strconv.Atoi(thread); err == nil {
				c.ID, c.Thread = id, n
			}
		}
		b.chats = append(b.chats, c)
	}
	return b
}

func (b *bot) send(ctx context.Context, m *message) error {
	if b.sending != m {
		b.sending, b.left, b.refused = m, b.chats, nil
	}
	for len(b.left) > 0 {
		c := b.left[0]
		c.Contents = m.text()
		err := call(ctx, b.client, http.MethodPost, b.url, "", c, nil)
		if f, ok := errors.AsType[*failure](err); ok && f.final {
			b.refused = f // continue with the other chats
		} else if err != nil {
			return err
		}
		b.left = b.left[1:]
	}
	return b.refused
}
