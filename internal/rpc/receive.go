package rpc

import (
	"context"
	"errors"
	"io"
)

// Receiver is the receiving half of any gRPC stream.
type Receiver[T any] interface {
	Context() context.Context
	Recv() (*T, error)
}

// Each reads a stream in a goroutine that handles what comes, one message after
// the other. The channel then gets why there are no more: nil, when the peer
// closed its half, or the error. It ends as that of [Receive] does; where much
// comes it is cheaper, since nothing is handed on.
func Each[T any](stream Receiver[T], handle func(*T)) <-chan error {
	end := make(chan error, 1)
	go func() {
		for {
			m, err := stream.Recv()
			switch {
			case errors.Is(err, io.EOF):
				end <- nil
				return
			case err != nil:
				end <- err
				return
			}
			handle(m)
		}
	}()
	return end
}

// Receive reads a stream in a goroutine, so that its owner can select on what
// comes. The channel is closed when the peer closed its half or the stream
// broke; then, not before, the function says which: nil, or the error.
//
// The goroutine ends with the stream: on a server when the handler returns, on
// a client when the context of the call ends.
func Receive[T any](stream Receiver[T]) (<-chan *T, func() error) {
	messages := make(chan *T)
	var result error
	go func() {
		defer close(messages)
		for {
			m, err := stream.Recv()
			if err != nil {
				if !errors.Is(err, io.EOF) {
					result = err
				}
				return
			}
			select {
			case messages <- m:
			case <-stream.Context().Done():
				result = context.Cause(stream.Context())
				return
			}
		}
	}()
	return messages, func() error { return result }
}
