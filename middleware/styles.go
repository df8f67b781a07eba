package middleware

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/stint-go/stint/respond"
)

// setStyles validates and copies the styles of a Config.
func (l *Limiter) setStyles(c Config) error {
	l.style = c.Style
	if err := l.style.Validate(); err != nil {
		return fmt.Errorf("ratelimit: Style: %w", err)
	}
	switch {
	case len(c.Styles) > 0 && c.StyleFor == nil:
		return errors.New("ratelimit: Styles without StyleFor: write which requests have which")
	case len(c.Styles) == 0 && c.StyleFor != nil:
		return errors.New("ratelimit: StyleFor without Styles: write the styles that it names")
	}
	l.styleFor, l.styles = c.StyleFor, make(map[string]*respond.Style, len(c.Styles))
	for _, name := range slices.Sorted(maps.Keys(c.Styles)) {
		style := c.Styles[name]
		if name == "" {
			return errors.New(`ratelimit: Styles[""]: write it as Style, or under a name`)
		}
		if err := style.Validate(); err != nil {
			return fmt.Errorf("ratelimit: Styles[%q]: %w", name, err)
		}
		l.styles[name] = &style
	}
	return nil
}

// styleOf returns the style that a request is answered in.
func (l *Limiter) styleOf(r *http.Request) *respond.Style {
	if l.styleFor != nil {
		if style, ok := l.styles[l.styleFor(r)]; ok {
			return style
		}
	}
	return &l.style
}
