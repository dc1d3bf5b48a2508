package main

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// How long an acknowledgement or a record may take.
const natsPatience = 30 * time.Second

type natsClient struct {
	connection *nats.Conn
	stream     nats.JetStreamContext
	subject    string
}

func openNats(s settings) (client, error) {
	connection, err := nats.Connect("nats://" + s.address)
	if err != nil {
		return nil, err
	}
	// produce bounds what is unacknowledged itself, and waits instead of failing
	stream, err := connection.JetStream(nats.PublishAsyncMaxPending(2*s.inFlight + 16))
	return &natsClient{connection, stream, s.stream}, err
}

func setUpNats(s settings) error {
	c, err := openNats(s)
	if err != nil {
		return err
	}
	defer c.close()
	config := &nats.StreamConfig{Name: s.stream, Subjects: []string{s.stream}, Storage: nats.FileStorage, Replicas: 1}
	stream := c.(*natsClient).stream
	if err := stream.DeleteStream(s.stream); err != nil && !errors.Is(err, nats.ErrStreamNotFound) {
		return err
	}
	_, err = stream.AddStream(config)
	return err
}

type pending struct {
	sent time.Time
	ack  nats.PubAckFuture
}

func (c *natsClient) produce(inFlight int, share int64, stop *atomic.Bool, value func() []byte, done func(time.Time)) error {
	waiting := make(chan pending, inFlight)
	failed := make(chan error, 1)
	go func() {
		var first error
		for p := range waiting {
			select {
			case <-p.ack.Ok():
				done(p.sent)
			case err := <-p.ack.Err():
				first = errors.Join(first, err)
			case <-time.After(natsPatience):
				first = errors.Join(first, errors.New("no acknowledgement"))
			}
		}
		failed <- first
	}()
	for number := int64(0); number != share && !stop.Load(); number++ {
		sent := time.Now()
		if inFlight == 1 {
			if _, err := c.stream.Publish(c.subject, value(), nats.AckWait(natsPatience)); err != nil {
				return err
			}
			done(sent)
			continue
		}
		ack, err := c.stream.PublishAsync(c.subject, value())
		if err != nil {
			return err
		}
		waiting <- pending{sent, ack}
	}
	close(waiting)
	return <-failed
}

// consume reads with an ordered consumer, the fastest that the client has.
func (c *natsClient) consume(done func(int64)) error {
	info, err := c.stream.StreamInfo(c.subject)
	if err != nil {
		return err
	}
	subscription, err := c.stream.SubscribeSync(c.subject, nats.OrderedConsumer())
	if err != nil {
		return err
	}
	for left := info.State.Msgs; left > 0; left-- {
		if _, err := subscription.NextMsg(natsPatience); err != nil {
			return err
		}
		done(1)
	}
	return subscription.Unsubscribe()
}

func (c *natsClient) close() { c.connection.Close() }
