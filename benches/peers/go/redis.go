package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync/atomic"
	"time"
)

// redisClient speaks the few words of RESP that are needed: XADD, XRANGE, DEL.
type redisClient struct {
	connection net.Conn
	reader     *bufio.Reader
	writer     *bufio.Writer
	stream     string
}

// Entries of one XRANGE.
const redisPage = 1000

func openRedis(s settings) (client, error) {
	connection, err := net.Dial("tcp", s.address)
	if err != nil {
		return nil, err
	}
	reader, writer := bufio.NewReaderSize(connection, 1<<20), bufio.NewWriterSize(connection, 1<<20)
	return &redisClient{connection, reader, writer, s.stream}, nil
}

func setUpRedis(s settings) error {
	c, err := openRedis(s)
	if err != nil {
		return err
	}
	defer c.close()
	redis := c.(*redisClient)
	redis.command([]byte("DEL"), []byte(s.stream))
	if err := redis.writer.Flush(); err != nil {
		return err
	}
	_, err = redis.answer()
	return err
}

func (c *redisClient) command(words ...[]byte) {
	// what cannot be written shows at Flush
	fmt.Fprintf(c.writer, "*%d\r\n", len(words))
	for _, word := range words {
		fmt.Fprintf(c.writer, "$%d\r\n", len(word))
		c.writer.Write(word)
		c.writer.WriteString("\r\n")
	}
}

// answer reads one, nested arrays as []any.
func (c *redisClient) answer() (any, error) {
	line, err := c.reader.ReadString('\n')
	if err != nil {
		return nil, err
	}
	kind, text := line[0], line[1:len(line)-2]
	switch kind {
	case '+', ':':
		return text, nil
	case '-':
		return nil, errors.New(text)
	}
	size, err := strconv.Atoi(text)
	if err != nil || size < 0 {
		return nil, err
	}
	if kind == '$' {
		bytes := make([]byte, size+2)
		_, err := io.ReadFull(c.reader, bytes)
		return string(bytes[:size]), err
	}
	all := make([]any, size)
	for at := range all {
		if all[at], err = c.answer(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (c *redisClient) produce(inFlight int, share int64, stop *atomic.Bool, value func() []byte, done func(time.Time)) error {
	waiting := make(chan time.Time, max(1, inFlight))
	failed := make(chan error, 1)
	ended := make(chan struct{})
	acknowledged := make(chan struct{}, max(1, inFlight))
	go func() {
		defer close(ended)
		for sent := range waiting {
			if _, err := c.answer(); err != nil {
				failed <- err
				// whoever sends must not wait for room
				c.connection.Close()
				for range waiting {
					acknowledged <- struct{}{}
				}
				return
			}
			done(sent)
			acknowledged <- struct{}{}
		}
	}()
	unanswered := 0
	for number := int64(0); number != share && !stop.Load(); number++ {
		for unanswered >= inFlight {
			// nothing more goes into the buffer until an answer comes
			if err := c.writer.Flush(); err != nil {
				break
			}
			<-acknowledged
			unanswered--
		}
		for more := true; more && unanswered > 0; {
			select {
			case <-acknowledged:
				unanswered--
			default:
				more = false
			}
		}
		c.command([]byte("XADD"), []byte(c.stream), []byte("*"), []byte("v"), value())
		waiting <- time.Now()
		unanswered++
		if inFlight == 1 {
			if err := c.writer.Flush(); err != nil {
				break
			}
		}
	}
	flushed := c.writer.Flush()
	close(waiting)
	for unanswered > 0 {
		select {
		case <-acknowledged:
			unanswered--
		case <-ended:
			unanswered = 0
		}
	}
	<-ended
	select {
	case err := <-failed:
		return err
	default:
		return flushed
	}
}

func (c *redisClient) consume(done func(int64)) error {
	start := "-"
	for {
		c.command([]byte("XRANGE"), []byte(c.stream), []byte(start), []byte("+"), []byte("COUNT"), []byte(strconv.Itoa(redisPage)))
		if err := c.writer.Flush(); err != nil {
			return err
		}
		answer, err := c.answer()
		if err != nil {
			return err
		}
		entries, _ := answer.([]any)
		if len(entries) == 0 {
			return nil
		}
		done(int64(len(entries)))
		last, _ := entries[len(entries)-1].([]any)
		if len(last) == 0 {
			return errors.New("an entry without an id")
		}
		start = "(" + last[0].(string)
	}
}

func (c *redisClient) close() { c.connection.Close() }
