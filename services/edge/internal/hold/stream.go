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
	// Ended is the last call, and comes once for every stream that was held:
	// whole says that the owner's End, and everything before it, was handed to
	// the connection. Otherwise the peer vanished or closed, took nothing for
	// too long, or the stream was cut.
	Ended(number uint64, whole bool)
	// Drain asks to end soon: the server that holds the stream is leaving.
	Drain(number uint64)
}

// Receiver takes what comes over a WebSocket, one thing at a time, in order. It must
// not block. One may still be on its way to it when its stream has ended.
type Receiver interface {
	// Message takes a text message. The bytes are the receiver's.
	Message(number uint64, text []byte)
	// Pong takes the payload of a pong. It is good during the call only.
	Pong(number uint64, payload []byte)
}

// SocketOptions bound a WebSocket.
type SocketOptions struct {
	// Protocol is the subprotocol that is selected if the client offers it;
	// empty: the first one that it offers.
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

// holder is what keeps an exchange or a stream: something is to be done for it.
// wake takes leaf locks only.
type holder interface {
	wake()
	spares() *spares
}

// Stream is a response without an end yet, or a WebSocket: frames go out as
// they come. Its owner sends to it before and after it is held.
type Stream struct {
	number uint64
	owner  StreamOwner

	mu     sync.Mutex // leaf
	holder holder     // nil until held
	queue  queue
	ended  bool // no frame is taken any more
	cut    bool // what waits is dropped
	byPeer bool // the peer ended it
	told   bool // Ended was called
	full   bool // Writable is owed
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
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return int(s.queue.bytes)
	}
	s.pushLocked(f)
	s.full = s.full || s.queue.bytes >= Full
	if s.holder != nil {
		s.holder.wake()
	}
	return int(s.queue.bytes)
}

// End ends the stream behind what waits; last may be nil.
func (s *Stream) End(last *frame.Frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	if last != nil {
		s.pushLocked(last)
	}
	s.ended = true
	if s.holder != nil {
		s.holder.wake()
	}
}

// Cut ends the stream at once; what waits is dropped.
func (s *Stream) Cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cutLocked()
	if s.holder != nil {
		s.holder.wake()
	}
}

// reply queues an answer to the peer, unless it takes too little of what it
// asks for.
func (s *Stream) reply(f *frame.Frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended && int(s.queue.bytes)+f.Len() < Full {
		s.pushLocked(f)
		s.holder.wake()
	}
}

// endByPeer ends the stream behind what waits and an answer to the peer, unless
// the owner did so before.
func (s *Stream) endByPeer(answer *frame.Frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	s.pushLocked(answer)
	s.ended, s.byPeer = true, true
	s.holder.wake()
}

func (s *Stream) pushLocked(f *frame.Frame) {
	s.queue.push(f, s.sparesLocked())
}

func (s *Stream) sparesLocked() *spares {
	if s.holder == nil {
		return nil
	}
	return s.holder.spares()
}

func (s *Stream) cutLocked() {
	s.ended, s.cut, s.full = true, true, false
	s.queue.clear()
}

// hold names who keeps the stream from now on. What happened before wakes it.
func (s *Stream) hold(h holder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holder = h
	if s.ended || !s.queue.empty() {
		h.wake()
	}
}

// gather appends the bytes of what waits to b, as many frames as fit whole into
// its capacity, and says what follows. If the first does not fit into an empty
// b, what is left of it is returned without a copy.
func (s *Stream) gather(b []byte, bytes view) (out []byte, next after) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cut {
		return nil, afterCut
	}
	out, all := s.queue.gather(b, bytes)
	switch {
	case !all:
		return out, afterMore
	case s.ended:
		return out, afterEnd
	}
	return out, afterNothing
}

// after is what follows the bytes that were gathered.
type after uint8

const (
	afterNothing after = iota // for now
	afterMore                 // more to gather
	afterEnd                  // the end
	afterCut                  // nothing: the stream was cut
)

// wrote says that n bytes of what was gathered were handed to the connection.
// It reports whether Writable is due.
func (s *Stream) wrote(n int, bytes view) (writable bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue.wrote(n, bytes, s.sparesLocked())
	writable = s.full && s.queue.empty() && !s.ended
	if writable {
		s.full = false
	}
	return writable
}

// wasCut reports whether the stream was cut.
func (s *Stream) wasCut() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cut
}

func (s *Stream) isOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.told
}

// over is called once the stream is not held any more, as often as one likes.
func (s *Stream) over(whole bool) {
	s.mu.Lock()
	told := s.told
	s.told = true
	whole = whole && !s.byPeer
	s.cutLocked()
	s.mu.Unlock()
	if !told {
		s.owner.Ended(s.number, whole)
	}
}
