// Command adaptive simulates a service under too much load, and how an Adaptive
// brings it to rest. It writes a plot:
//
//	go run ./_examples/adaptive > adaptive.svg
//
// The limits, the Adaptive and the store are stint's own; the service and the time
// are simulated, so that ten minutes take seconds, and come out the same each time.
package main

import (
	"fmt"
	"log"
	"os"
)

func main() {
	with, err := simulate(true)
	if err != nil {
		log.Fatal(err)
	}
	without, err := simulate(false)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := os.Stdout.WriteString(plot(with, without)); err != nil {
		log.Fatal(err)
	}
	for _, phase := range phases(with, without) {
		fmt.Fprintln(os.Stderr, phase)
	}
}
