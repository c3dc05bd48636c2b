package hold

import (
	"net/http"
	"sync"

	"github.com/comet-push/comet/services/edge/internal/frame"
)

// Full is how many bytes may wait on a stream before its owner should keep
// what comes next to itself, until Writable.
const Full = 64 << 10

// StreamOwner hears of a stream. Its methods must not block, and are called
// without locks.
type StreamOwner interface {
	// Writable says that nothing waits any more, after Send returned Full or
	// more.
	Writable(number uint64)
	// Ended is the last call, and always comes: whole says that everything was
	// handed to the connection, the end included. Otherwise the peer vanished,
	// took nothing for too long, or the stream was cut.
	Ended(number uint64, whole bool)
	// Drain asks to end soon: the server that holds the stream is leaving.
	Drain(number uint64)
}

// Receiver takes the text messages of a WebSocket, one at a time, in order. The
// bytes are the receiver's. It must not block.
type Receiver interface {
	Message(number uint64, text []byte)
}

// Stream is a response without an end yet, or a WebSocket: frames go out as
// they come. Its owner sends to it before and after it is held.
type Stream struct {
	number uint64
	owner  StreamOwner

	mu    sync.Mutex // leaf
	queue []*frame.Frame
	bytes int    // of queue
	ended bool   // no frame is taken any more
	cut   bool   // what waits is dropped
	told  bool   // Ended was called
	full  bool   // Writable is owed
	wake  func() // tells the holder that something changed; nil until held
}

// NewStream returns a stream. Numbers are unique in a process.
func NewStream(number uint64, owner StreamOwner) *Stream {
	return &Stream{number: number, owner: owner}
}

// Number is what the owner knows the stream by.
func (s *Stream) Number() uint64 { return s.number }

// Send queues a frame and returns how many bytes wait now, the frame included.
// It never blocks. A frame sent after the end is dropped.
func (s *Stream) Send(f *frame.Frame) (waiting int) {
	panic("not written yet")
}

// End ends the stream behind what waits; last may be nil.
func (s *Stream) End(last *frame.Frame) {
	panic("not written yet")
}

// Cut ends the stream at once; what waits is dropped.
func (s *Stream) Cut() {
	panic("not written yet")
}

// SocketOptions bound a WebSocket.
type SocketOptions struct {
	// Protocol is the subprotocol that was chosen, or empty.
	Protocol string
	// MaxMessage bounds a message of the peer in bytes.
	MaxMessage int
}

// Streamer holds streams.
type Streamer interface {
	// Stream answers a request with status 200, the headers set on w, and the
	// frames of the stream as its body. It returns when the handler may.
	Stream(w http.ResponseWriter, r *http.Request, s *Stream)
	// Socket answers an upgrade to a WebSocket, whose frames are those of the
	// stream: text messages, pings and a closing frame. Bad upgrades are
	// answered with a status; the stream has then ended.
	Socket(w http.ResponseWriter, r *http.Request, s *Stream, o SocketOptions, receive Receiver)
}
