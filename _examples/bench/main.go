// Command bench measures stint beside other limiters, in one run on one
// machine, and prints one table.
//
//	go -C _examples/bench run .              # a base row, and one change at a time
//	go -C _examples/bench run . -full        # every combination
//	go -C _examples/bench run . -only redis  # rows whose name matches
//	go -C _examples/bench run . -streams 10000 # what it costs to renew slots
//
// For each row, stint and its peer take turns, round by round, so that what
// else the machine does hurts both. The ratio is the median over the rounds.
// The Redis of the run is its own: a private process on a socket.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"time"
)

func main() {
	full := flag.Bool("full", false, "measure every combination")
	only := flag.String("only", "", "measure the rows whose `name` matches this regular expression")
	rounds := flag.Int("rounds", 5, "rounds a row")
	length := flag.Duration("round", 200*time.Millisecond, "length of a round")
	streams := flag.Int("streams", 0, "measure instead what it costs to renew the slots of `n` open streams, for 20 s")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if *streams > 0 {
		err = runStreams(ctx, os.Stdout, *streams)
	} else {
		err = run(ctx, os.Stdout, *full, *only, *rounds, *length)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func runStreams(ctx context.Context, out io.Writer, n int) error {
	redis, err := startRedis()
	if err != nil {
		return err
	}
	defer redis.stop()
	return measureStreams(ctx, out, redis, n, 20*time.Second)
}

func run(ctx context.Context, out io.Writer, full bool, only string, rounds int, length time.Duration) error {
	match, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	if rounds < 1 {
		return errors.New("write at least one round")
	}
	redis, err := startRedis()
	if err != nil {
		return err
	}
	defer redis.stop()

	fmt.Fprintf(out, "%s, %d cores, Redis %s on a socket, median of %d rounds of %v\n\n",
		runtime.Version(), runtime.GOMAXPROCS(0), redis.version, rounds, length)
	fmt.Fprintln(out, "| | | limits | keys | goroutines | answer | stint: decisions/s | ns/op | allocs/op | peer | decisions/s | ns/op | allocs/op | stint : peer |")
	fmt.Fprintln(out, "| --- | --- | ---: | ---: | ---: | --- | ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: |")
	for _, r := range rows(full) {
		if !match.MatchString(r.String()) {
			continue
		}
		d, err := compare(ctx, redis, r, rounds, length)
		if err != nil {
			return fmt.Errorf("%s: %w", r, err)
		}
		fmt.Fprintf(out, "| %s | %s | %d | %d | %d | %s | %s | %s | %s | %.2f |\n",
			r.layer, r.backend, r.limits, r.keys, r.goroutines, r.answer(), d.stint, d.peerName, d.peer, d.ratio)
	}
	return nil
}
