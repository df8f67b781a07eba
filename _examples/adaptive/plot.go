package main

import (
	"fmt"
	"math"
	"strings"
)

const (
	width, margin = 900.0, 60.0
	panel, gap    = 150.0, 40.0
)

// A line is one value a second.
type line struct {
	name, color string
	value       func(s *second) float64
	of          []second
}

// plot draws latency, requests and factor over time, as SVG.
func plot(with, without []second) string {
	var b strings.Builder
	height := 3*panel + 3*gap + 30
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" font-family="sans-serif" font-size="12">`+"\n", width+2*margin, height+30)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/>`+"\n")
	latency := func(s *second) float64 { return s.latency() }
	panels := []struct {
		title string
		from  float64 // of a logarithmic scale; 0 for a linear one
		to    float64
		lines []line
	}{
		{"latency of nine tenths, seconds", 0.01, 1000, []line{{"without", "#c33", latency, without}, {"with Adaptive", "#06c", latency, with}}},
		{"requests a second", 0, 500, []line{
			{"arrived", "#999", func(s *second) float64 { return float64(s.arrived) }, with},
			{"served, without", "#c33", func(s *second) float64 { return float64(s.served) }, without},
			{"served, with Adaptive", "#06c", func(s *second) float64 { return float64(s.served) }, with},
		}},
		{"factor", 0, 1, []line{{"of all but Critical rules", "#06c", func(s *second) float64 { return s.factor }, with}}},
	}
	for i, p := range panels {
		top := 30 + float64(i)*(panel+gap)
		y := func(v float64) float64 {
			share := v / p.to
			if p.from > 0 {
				share = math.Log(max(v, p.from)/p.from) / math.Log(p.to/p.from)
			}
			return top + panel*(1-min(max(share, 0), 1))
		}
		from, to := x(begins), x(ends)
		fmt.Fprintf(&b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.0f" fill="#f6eedd"/>`+"\n", from, top, to-from, panel)
		fmt.Fprintf(&b, `<rect x="%.0f" y="%.1f" width="%.0f" height="%.0f" fill="none" stroke="#888"/>`+"\n", margin, top, width, panel)
		fmt.Fprintf(&b, `<text x="%.0f" y="%.1f" font-weight="bold">%s</text>`+"\n", margin, top-8, p.title)
		for _, v := range []float64{max(p.from, 0), p.to} {
			fmt.Fprintf(&b, `<text x="%.0f" y="%.1f" text-anchor="end">%g</text>`+"\n", margin-6, y(v)+4, v)
		}
		for j, l := range p.lines {
			fmt.Fprintf(&b, `<text x="%.0f" y="%.1f" text-anchor="end" fill="%s">%s</text>`+"\n", margin+width-8-180*float64(j), top-8, l.color, l.name)
			fmt.Fprintf(&b, `<polyline fill="none" stroke="%s" stroke-width="1.2" points="%s"/>`+"\n", l.color, points(l, y))
		}
	}
	for s := 0; s <= total; s += 60 {
		fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" text-anchor="middle">%d s</text>`+"\n", x(s), height-10, s)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

func x(s int) float64 { return margin + width*float64(s)/total }

// points joins the means of three seconds, where there are any.
func points(l line, y func(float64) float64) string {
	var b strings.Builder
	const each = 3
	for s := 0; s+each <= len(l.of); s += each {
		sum, n := 0.0, 0.0
		for i := range each {
			if v := l.value(&l.of[s+i]); !math.IsNaN(v) {
				sum, n = sum+v, n+1
			}
		}
		if n > 0 {
			fmt.Fprintf(&b, "%.1f,%.1f ", x(s), y(sum/n))
		}
	}
	return b.String()
}
