// Loads for NATS JetStream and for Redis streams with the method of `sunseo bench`: a closed loop of clients, each with a connection of its
// own and at most so many unacknowledged records, measured after a warm-up. One run, one JSON object.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A client with one connection.
type client interface {
	// produce sends until stop is set or the share is sent; done is called once for every acknowledged record.
	produce(inFlight int, share int64, stop *atomic.Bool, value func() []byte, done func(sent time.Time)) error
	// consume reads from the start to the end that there is; done is called with the number of records of each answer.
	consume(done func(records int64)) error
	close()
}

type settings struct {
	peer, address, stream string
	clients, inFlight     int
	recordBytes           int
	megabytes             int64
	warmUp, duration      time.Duration
}

func main() {
	var s settings
	var seconds, warmUp float64
	mode := flag.String("mode", "produce", "setup, produce or consume")
	flag.StringVar(&s.peer, "peer", "", "nats or redis")
	flag.StringVar(&s.address, "address", "", "host:port")
	flag.StringVar(&s.stream, "stream", "bench", "name of the stream")
	flag.IntVar(&s.clients, "clients", 1, "connections")
	flag.IntVar(&s.inFlight, "in-flight", 1, "unacknowledged records of each")
	flag.IntVar(&s.recordBytes, "record-bytes", 1024, "bytes of a record")
	flag.Int64Var(&s.megabytes, "megabytes", 0, "end after so much instead of after the duration")
	flag.Float64Var(&warmUp, "warm-up", 1, "seconds")
	flag.Float64Var(&seconds, "duration", 5, "seconds")
	flag.Parse()
	s.warmUp, s.duration = time.Duration(warmUp*1e9), time.Duration(seconds*1e9)
	figures, err := run(*mode, s)
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(figures); err != nil {
		os.Exit(1)
	}
}

func run(mode string, s settings) (map[string]float64, error) {
	open := map[string]func(settings) (client, error){"nats": openNats, "redis": openRedis}[s.peer]
	setUp := map[string]func(settings) error{"nats": setUpNats, "redis": setUpRedis}[s.peer]
	if open == nil {
		return nil, fmt.Errorf("-peer is %q: use nats or redis", s.peer)
	}
	switch mode {
	case "setup":
		return map[string]float64{}, setUp(s)
	case "produce":
		return produce(s, open)
	case "consume":
		return consume(s, open)
	}
	return nil, fmt.Errorf("-mode is %q: use setup, produce or consume", mode)
}

func connect(s settings, open func(settings) (client, error)) ([]client, error) {
	clients := make([]client, 0, s.clients)
	for range s.clients {
		c, err := open(s)
		if err != nil {
			return nil, err
		}
		clients = append(clients, c)
	}
	return clients, nil
}

// values cuts records from noise, so that they do not compress to nothing.
func values(number, size int) func() []byte {
	const filler = 1 << 20
	random := rand.New(rand.NewPCG(uint64(number), 1))
	noise := make([]byte, filler+size)
	for at := range noise {
		noise[at] = byte(random.Uint32())
	}
	return func() []byte {
		at := random.IntN(filler)
		return noise[at : at+size]
	}
}

func produce(s settings, open func(settings) (client, error)) (map[string]float64, error) {
	clients, err := connect(s, open)
	if err != nil {
		return nil, err
	}
	var stop atomic.Bool
	var all, measured atomic.Int64
	var from atomic.Int64
	share := int64(-1)
	if s.megabytes > 0 {
		share = s.megabytes*1_000_000/int64(s.recordBytes)/int64(s.clients) + 1
	}
	times := make([]histogram, s.clients)
	failed := make(chan error, s.clients)
	var running sync.WaitGroup
	start := time.Now()
	if share >= 0 {
		from.Store(start.UnixNano())
	}
	for number, c := range clients {
		running.Go(func() {
			done := func(sent time.Time) {
				all.Add(1)
				if at := from.Load(); at != 0 && sent.UnixNano() >= at {
					measured.Add(1)
					times[number].record(time.Since(sent))
				}
			}
			if err := c.produce(s.inFlight, share, &stop, values(number, s.recordBytes), done); err != nil {
				failed <- err
			}
			c.close()
		})
	}
	var seconds float64
	var count int64
	if share >= 0 {
		running.Wait()
		seconds, count = time.Since(start).Seconds(), measured.Load()
	} else {
		time.Sleep(s.warmUp)
		begun, before := time.Now(), all.Load()
		from.Store(begun.UnixNano())
		time.Sleep(s.duration)
		seconds, count = time.Since(begun).Seconds(), all.Load()-before
		stop.Store(true)
		running.Wait()
	}
	select {
	case err := <-failed:
		return nil, err
	default:
	}
	var merged histogram
	for at := range times {
		merged.merge(&times[at])
	}
	return map[string]float64{
		"duration_s":               seconds,
		"records":                  float64(count),
		"records_in_all":           float64(all.Load()),
		"throughput_records_per_s": float64(count) / seconds,
		"throughput_mb_per_s":      float64(count) * float64(s.recordBytes) / seconds / 1e6,
		"acknowledged_p50_ms":      merged.ms(0.5),
		"acknowledged_p99_ms":      merged.ms(0.99),
		"acknowledged_max_ms":      merged.ms(1),
	}, nil
}

func consume(s settings, open func(settings) (client, error)) (map[string]float64, error) {
	c, err := open(s)
	if err != nil {
		return nil, err
	}
	defer c.close()
	var count int64
	start := time.Now()
	if err := c.consume(func(records int64) { count += records }); err != nil {
		return nil, err
	}
	seconds := time.Since(start).Seconds()
	return map[string]float64{
		"duration_s":               seconds,
		"records":                  float64(count),
		"throughput_records_per_s": float64(count) / seconds,
		"throughput_mb_per_s":      float64(count) * float64(s.recordBytes) / seconds / 1e6,
	}, nil
}
